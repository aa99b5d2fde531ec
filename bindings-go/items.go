package dunnage

/*
#include <stdlib.h>
#include <dunnage.h>

int32_t dunnage_go_item(const char *item, void *user_data);
void dunnage_go_items_end(dunnage_status status, dunnage_error *error, void *user_data);

// cgo.Handle values travel as user data; they are numbers, not Go pointers.
static dunnage_status dunnage_go_items_open(const dunnage_engine *engine, const char *operation, const char *workspace_id,
		const char *options, const dunnage_call *call, uintptr_t handle, dunnage_items **items, dunnage_error **error) {
	dunnage_item_sink sink = DUNNAGE_ITEM_SINK_INIT;
	sink.on_item = dunnage_go_item;
	sink.on_end = dunnage_go_items_end;
	sink.user_data = (void *)handle;
	return dunnage_items_open(engine, operation, workspace_id, options, call, &sink, items, error);
}
*/
import "C"

import (
	"context"
	"encoding/json"
	"runtime/cgo"
	"sync"
	"unsafe"
)

// Items are what an operation yields, one at a time and in order. An item is made when the one before was received: a
// receiver that is slow holds up nothing else.
//
// They end by themselves, with their context, with Close and with the closing of the engine. A program that stops
// receiving before the end must end the context or call Close.
type Items[T any] struct {
	// C gives the items. It is closed after the last one; Err tells then why.
	C <-chan T

	core *itemsCore
}

// itemsCore is what items of any type have.
type itemsCore struct {
	// Held, since an engine that is lost is closed, and ends its items.
	engine  *Engine
	ref     ref
	stop    chan struct{}
	stopped sync.Once
	mu      sync.Mutex
	err     error
}

// itemSink is where the library's items go.
type itemSink struct {
	take func(item []byte) bool
	end  func(status C.dunnage_status, failed *C.dunnage_error)
}

// Err is why C was closed: nil after the last item, and when Close or the closing of the engine ended the items; the
// context's end matches both [ErrCancelled] and the context's own error. Before C is closed it is nil.
func (i *Items[T]) Err() error {
	i.core.mu.Lock()
	defer i.core.mu.Unlock()
	return i.core.err
}

// Close ends the items; C is closed when it returns. Closing twice is no error.
func (i *Items[T]) Close() error {
	i.core.stopped.Do(func() { close(i.core.stop) })
	i.core.ref.shut(func() {})
	return nil
}

func (i *itemsCore) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err == nil {
		i.err = err
	}
}

// closing tells whether Close was called.
func (i *itemsCore) closing() bool {
	select {
	case <-i.stop:
		return true
	default:
		return false
	}
}

//export dunnageGoItem
func dunnageGoItem(item *C.char, handle C.uintptr_t) C.int32_t {
	sink, ok := cgo.Handle(handle).Value().(*itemSink)
	if ok && sink.take([]byte(C.GoString(item))) {
		return 0
	}
	return 1
}

//export dunnageGoItemsEnd
func dunnageGoItemsEnd(status C.dunnage_status, failed *C.dunnage_error, handle C.uintptr_t) {
	sink, ok := cgo.Handle(handle).Value().(*itemSink)
	if !ok {
		C.dunnage_error_free(failed)
		return
	}
	sink.end(status, failed)
	cgo.Handle(handle).Delete()
}

// items begins an operation that yields items.
func items[T any, O any](
	ctx context.Context, on target, operation string, options *O, calls []CallOption,
) (*Items[T], error) {
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

	channel, opened := make(chan T), make(chan struct{})
	core := &itemsCore{engine: on.engine, stop: make(chan struct{})}
	sink := &itemSink{
		take: func(text []byte) bool {
			var item T
			if err := json.Unmarshal(text, &item); err != nil {
				message := "malformed item: " + err.Error()
				number := int32(C.DUNNAGE_UNEXPECTED)
				core.fail(&Error{Code: CodeUnexpected, Number: number, Operation: operation, Message: message})
				return false
			}
			select {
			case channel <- item:
				return true
			case <-core.stop:
			case <-ctx.Done():
			}
			return false
		},
		end: func(status C.dunnage_status, failed *C.dunnage_error) {
			if err := takeError(ctx, status, failed); err != nil && !core.closing() {
				core.fail(err)
			}
			close(channel)
			// The handle is freed when its last callback, which is this one, has returned.
			go func() {
				<-opened
				core.ref.shut(func() {})
			}()
		},
	}
	with, _, end := newCall(calls).prepare(ctx)
	handle := cgo.NewHandle(sink)
	var made *C.dunnage_items
	var failed *C.dunnage_error
	status := C.dunnage_go_items_open(engine, name, id, given, with, C.uintptr_t(handle), &made, &failed)
	if status != C.DUNNAGE_OK {
		handle.Delete()
		end()
		return nil, takeError(ctx, status, failed)
	}
	core.ref.free = func() {
		C.dunnage_items_free(made)
		end()
	}
	close(opened)
	return &Items[T]{C: channel, core: core}, nil
}
