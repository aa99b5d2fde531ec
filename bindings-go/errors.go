package dunnage

/*
#include <dunnage.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// A Code is the stable name of an error kind. It is an error itself, so that errors.Is finds it.
type Code string

// Error is the name.
func (c Code) Error() string { return string(c) }

// An Error is what went wrong, in which operation, with which ids and paths.
type Error struct {
	// What the caller can do about it.
	Code Code `json:"code"`
	// The stable number of the code, never 0.
	Number int32 `json:"number"`
	// The operation that failed, as noun.verb; empty outside of one.
	Operation string `json:"operation"`
	// What happened and what to do, for people.
	Message string `json:"message"`
	// Ids, paths and numbers that belong to the fault.
	Context map[string]string `json:"context"`

	cause error
}

// Error tells all of it on one line.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString(string(e.Code))
	if e.Operation != "" {
		text.WriteString(" in " + e.Operation)
	}
	text.WriteString(": " + e.Message)
	keys := make([]string, 0, len(e.Context))
	for key := range e.Context {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for i, key := range keys {
		before := ", "
		if i == 0 {
			before = " ("
		}
		text.WriteString(before + key + ": " + e.Context[key])
	}
	if len(keys) > 0 {
		text.WriteString(")")
	}
	return text.String()
}

// Is tells whether target is this error's code.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
}

// Unwrap is the context's error, when the context ended the call.
func (e *Error) Unwrap() error { return e.cause }

// takeError turns a C error into a Go one and frees it. The context that ended the call becomes its cause.
func takeError(ctx context.Context, status C.dunnage_status, failed *C.dunnage_error) error {
	if status == C.DUNNAGE_OK {
		return nil
	}
	made := &Error{Code: codes[int32(status)], Number: int32(status)}
	if made.Code == "" {
		made.Code = CodeUnexpected
	}
	if failed != nil {
		text := C.GoString(C.dunnage_error_json(failed))
		if err := json.Unmarshal([]byte(text), made); err != nil {
			made.Message = text
		}
		C.dunnage_error_free(failed)
	}
	if ctx != nil && ctx.Err() != nil && made.Code == CodeCancelled {
		made.cause = context.Cause(ctx)
	}
	return made
}

func invalid(operation, format string, args ...any) error {
	number := int32(C.DUNNAGE_INVALID_ARGUMENT)
	return &Error{Code: CodeInvalidArgument, Number: number, Operation: operation, Message: fmt.Sprintf(format, args...)}
}

func closed(operation, what string) error {
	number := int32(C.DUNNAGE_FAILED_PRECONDITION)
	message := "the " + what + " is closed"
	return &Error{Code: CodeFailedPrecondition, Number: number, Operation: operation, Message: message}
}

// KindOf is the code of an error of this package; empty for any other.
func KindOf(err error) Code {
	var failed *Error
	if errors.As(err, &failed) {
		return failed.Code
	}
	return ""
}
