package dunnage

/*
#cgo pkg-config: dunnage
#include <stdlib.h>
#include <dunnage.h>

int32_t dunnage_go_event(const char *event, void *user_data);
void dunnage_go_done(dunnage_status status, char *result, dunnage_error *error, void *user_data);

// cgo.Handle values travel as user data; they are numbers, not Go pointers.
static void dunnage_go_prepare(dunnage_call *call, uintptr_t handle, dunnage_cancel *cancel, uint64_t limit, int events) {
	dunnage_call empty = DUNNAGE_CALL_INIT;
	*call = empty;
	call->user_data = (void *)handle;
	call->cancel = cancel;
	call->time_limit_ms = limit;
	if (events) {
		call->on_event = dunnage_go_event;
	}
}

static dunnage_status dunnage_go_submit(const dunnage_engine *engine, const char *operation, const char *workspace_id,
		const char *options, const dunnage_call *call, uintptr_t handle, dunnage_error **error) {
	return dunnage_submit(engine, operation, workspace_id, options, call, dunnage_go_done, (void *)handle, error);
}
*/
import "C"

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"runtime/cgo"
	"time"
	"unsafe"
)

// A CallOption says what goes with a call besides its options.
type CallOption func(*callState)

// OnEvent calls f with each event of the operation, one at a time and in order, on a goroutine of its own: it may block
// and call the library. Progress that comes while it works is coalesced. A panic in f is logged and ends the watching,
// and neither ends the program nor changes the operation. The call returns after f took the terminal event.
func OnEvent(f func(Event)) CallOption {
	return func(call *callState) { call.onEvent = f }
}

// Events sends each event of the operation into channel, in the way of [OnEvent]; it is not closed at the end.
func Events(channel chan<- Event) CallOption {
	return OnEvent(func(event Event) { channel <- event })
}

// TimeLimit undoes the call and ends it with [ErrTimeout] when it takes longer.
func TimeLimit(limit time.Duration) CallOption {
	return func(call *callState) { call.limit = limit }
}

// Ptr makes a pointer to a value, for options where absent and zero mean different things.
func Ptr[T any](value T) *T { return &value }

// callState is a call under way.
type callState struct {
	onEvent func(Event)
	limit   time.Duration
	input   []byte
	broken  bool
	done    chan outcome
}

type outcome struct {
	result []byte
	err    error
}

func newCall(calls []CallOption) *callState {
	state := &callState{done: make(chan outcome, 1)}
	for _, option := range calls {
		if option != nil {
			option(state)
		}
	}
	return state
}

// limitMs is the time limit as C takes it: at least 1 when there is one.
func (s *callState) limitMs() C.uint64_t {
	if s.limit <= 0 {
		return 0
	}
	return C.uint64_t((s.limit + time.Millisecond - 1) / time.Millisecond)
}

// prepare makes a C call, in C's memory. The returned function must run when the call has ended.
func (s *callState) prepare(ctx context.Context) (*C.dunnage_call, cgo.Handle, func()) {
	call := (*C.dunnage_call)(C.malloc(C.sizeof_dunnage_call))
	handle := cgo.NewHandle(s)
	cancel := C.dunnage_cancel_new()
	triggered := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		C.dunnage_cancel_trigger(cancel)
		close(triggered)
	})
	events := C.int(0)
	if s.onEvent != nil {
		events = 1
	}
	C.dunnage_go_prepare(call, C.uintptr_t(handle), cancel, s.limitMs(), events)
	return call, handle, func() {
		if !stop() {
			// The context ended: its function must be through with the cancel before that is freed.
			<-triggered
		}
		C.dunnage_cancel_free(cancel)
		C.free(unsafe.Pointer(call))
		handle.Delete()
	}
}

//export dunnageGoEvent
func dunnageGoEvent(event *C.char, handle C.uintptr_t) C.int32_t {
	state, ok := cgo.Handle(handle).Value().(*callState)
	if !ok || state.onEvent == nil || state.broken {
		return 0
	}
	var decoded Event
	if err := json.Unmarshal([]byte(C.GoString(event)), &decoded); err != nil {
		slog.Error("dunnage: malformed event", "error", err)
		return 0
	}
	defer func() {
		if panicked := recover(); panicked != nil {
			// Events of one call come one at a time, so nobody else looks at this.
			state.broken = true
			slog.Error("dunnage: the event callback panicked and is not called again", "panic", panicked)
		}
	}()
	state.onEvent(decoded)
	return 0
}

//export dunnageGoDone
func dunnageGoDone(status C.dunnage_status, result *C.char, failed *C.dunnage_error, handle C.uintptr_t) {
	state, ok := cgo.Handle(handle).Value().(*callState)
	if !ok {
		C.dunnage_string_free(result)
		C.dunnage_error_free(failed)
		return
	}
	done := outcome{err: takeError(nil, status, failed)}
	if result != nil {
		done.result = []byte(C.GoString(result))
		C.dunnage_string_free(result)
	}
	state.done <- done
}

// target is what an operation is called on.
type target struct {
	engine    *Engine
	workspace *string
}

// call runs an operation that is called with JSON. No thread waits for it.
func call[R any, O any](ctx context.Context, on target, operation string, options *O, calls []CallOption) (*R, error) {
	if err := ctx.Err(); err != nil {
		return nil, cancelled(operation, ctx)
	}
	text, err := encode(operation, options)
	if err != nil {
		return nil, err
	}
	engine, release, err := on.engine.use(operation)
	if err != nil {
		return nil, err
	}
	defer release()

	name := C.CString(operation)
	defer C.free(unsafe.Pointer(name))
	given := C.CString(text)
	defer C.free(unsafe.Pointer(given))
	var id *C.char
	if on.workspace != nil {
		if id, err = cString(operation, "workspace_id", *on.workspace); err != nil {
			return nil, err
		}
		defer C.free(unsafe.Pointer(id))
	}

	state := newCall(calls)
	with, handle, end := state.prepare(ctx)
	defer end()
	var failed *C.dunnage_error
	if status := C.dunnage_go_submit(engine, name, id, given, with, C.uintptr_t(handle), &failed); status != C.DUNNAGE_OK {
		return nil, takeError(ctx, status, failed)
	}
	done := <-state.done
	if done.err != nil {
		return nil, withCause(ctx, done.err)
	}
	result := new(R)
	if len(done.result) > 0 && string(done.result) != "null" {
		if err := json.Unmarshal(done.result, result); err != nil {
			return nil, &Error{Code: CodeUnexpected, Operation: operation, Message: "malformed result: " + err.Error()}
		}
	}
	return result, nil
}

// Call does an operation of the catalogue by its name, such as workspace.create, with options and result as JSON: for
// programs that pass calls on. workspaceID is empty for operations on the engine; nil options stand for the defaults.
// Operations that move bytes are not called this way.
func (e *Engine) Call(
	ctx context.Context, operation, workspaceID string, options json.RawMessage, calls ...CallOption,
) (json.RawMessage, error) {
	on := target{engine: e}
	if workspaceID != "" {
		on.workspace = &workspaceID
	}
	if options == nil {
		options = json.RawMessage("{}")
	}
	result, err := call[json.RawMessage](ctx, on, operation, &options, calls)
	if err != nil {
		return nil, err
	}
	return *result, nil
}

func withCause(ctx context.Context, err error) error {
	if failed, ok := err.(*Error); ok && failed.Code == CodeCancelled && ctx.Err() != nil {
		failed.cause = context.Cause(ctx)
	}
	return err
}

func cancelled(operation string, ctx context.Context) error {
	number := int32(C.DUNNAGE_CANCELLED)
	message := "the context ended before the call began"
	return &Error{Code: CodeCancelled, Number: number, Operation: operation, Message: message, cause: context.Cause(ctx)}
}

func encode[O any](operation string, options *O) (string, error) {
	if options == nil {
		return "{}", nil
	}
	if raw, ok := any(options).(*json.RawMessage); ok {
		// Passed on as it is: the library tells what is wrong with it.
		if bytes.IndexByte(*raw, 0) >= 0 {
			return "", invalid(operation, "options have a NUL byte")
		}
		return string(*raw), nil
	}
	text, err := json.Marshal(options)
	if err != nil {
		return "", invalid(operation, "malformed options: %v", err)
	}
	return string(text), nil
}

// cString is text for C, which cannot carry a NUL.
func cString(operation, name, text string) (*C.char, error) {
	for i := range len(text) {
		if text[i] == 0 {
			return nil, invalid(operation, "%s has a NUL byte", name)
		}
	}
	return C.CString(text), nil
}
