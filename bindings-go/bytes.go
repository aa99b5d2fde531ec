package dunnage

/*
#include <stdlib.h>
#include <dunnage.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"unsafe"
)

// byteCall is a call of which bytes travel beside the JSON, made ready for C.
type byteCall struct {
	engine  *C.dunnage_engine
	id      *C.char
	options *C.char
	with    *C.dunnage_call
	end     func()
	release func()
}

// beginBytes makes a call ready; finish must run when it has ended.
func beginBytes[O any](
	ctx context.Context, ws *Workspace, operation string, options *O, calls []CallOption,
) (*byteCall, error) {
	if err := ctx.Err(); err != nil {
		return nil, cancelled(operation, ctx)
	}
	text, err := encode(operation, options)
	if err != nil {
		return nil, err
	}
	id, err := cString(operation, "workspace_id", ws.id)
	if err != nil {
		return nil, err
	}
	engine, release, err := ws.engine.use(operation)
	if err != nil {
		C.free(unsafe.Pointer(id))
		return nil, err
	}
	call := &byteCall{engine: engine, id: id, options: C.CString(text), release: release}
	call.with, _, call.end = newCall(calls).prepare(ctx)
	return call, nil
}

// finish lets go of everything.
func (c *byteCall) finish() {
	c.finishArguments()
	c.end()
}

// finishArguments lets go of everything but what cancels the call: for handles that go on to be cancelled by it.
func (c *byteCall) finishArguments() {
	C.free(unsafe.Pointer(c.id))
	C.free(unsafe.Pointer(c.options))
	c.release()
}

// pointer is the address of bytes for C, and their number.
func pointer(bytes []byte) (*C.uint8_t, C.size_t) {
	return (*C.uint8_t)(unsafe.SliceData(bytes)), C.size_t(len(bytes))
}

// takeBuffer copies a C buffer into Go's memory and frees it.
func takeBuffer(buffer *C.dunnage_buffer) []byte {
	bytes := make([]byte, int(buffer.len))
	if buffer.len > 0 {
		copy(bytes, unsafe.Slice((*byte)(unsafe.Pointer(buffer.data)), int(buffer.len)))
	}
	C.dunnage_buffer_free(buffer)
	return bytes
}

// takeJSON decodes a C text and frees it.
func takeJSON[R any](operation string, text *C.char) (*R, error) {
	if text == nil {
		return new(R), nil
	}
	defer C.dunnage_string_free(text)
	result := new(R)
	if err := json.Unmarshal([]byte(C.GoString(text)), result); err != nil {
		number := int32(C.DUNNAGE_UNEXPECTED)
		message := "malformed result: " + err.Error()
		return nil, &Error{Code: CodeUnexpected, Number: number, Operation: operation, Message: message}
	}
	return result, nil
}
