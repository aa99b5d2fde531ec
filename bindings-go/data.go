package dunnage

/*
#include <stdlib.h>
#include <dunnage.h>

int dunnage_go_write(void *user_data, const uint8_t *bytes, size_t length);
ptrdiff_t dunnage_go_read(void *user_data, uint8_t *bytes, size_t capacity);

// cgo.Handle values travel as user data; they are numbers, not Go pointers.
static dunnage_status dunnage_go_export_stream(const dunnage_engine *engine, const char *workspace_id, const char *options,
		const dunnage_call *call, uintptr_t handle, char **result, dunnage_error **error) {
	return dunnage_data_export_stream(engine, workspace_id, options, call, dunnage_go_write, (void *)handle, result, error);
}

static dunnage_status dunnage_go_import_stream(const dunnage_engine *engine, const char *workspace_id, const char *options,
		const dunnage_call *call, uintptr_t handle, char **result, dunnage_error **error) {
	return dunnage_data_import_stream(engine, workspace_id, options, call, dunnage_go_read, (void *)handle, result, error);
}
*/
import "C"

import (
	"context"
	"errors"
	"io"
	"runtime/cgo"
	"unsafe"
)

// How often a reader may give nothing, and no error, before it is given up.
const maxEmptyReads = 100

// ExportTo does data.export_stream: writes the data directory to an archive that goes to a writer as it comes. The
// options name neither a destination nor a descriptor; nil stands for the defaults.
//
// The writer is called on a thread of the library, one call at a time, and not any more when ExportTo has returned. It
// may block, which makes the export wait: a context that ends is heard when it returns. It must not wait for another
// operation on the same workspace, nor close the engine. Its error ends the export, and errors.Is finds it in the one
// that is returned; its panic goes on in the caller. What was written until an error is no archive; the workspace runs
// again if it ran.
func (d *Data) ExportTo(
	ctx context.Context, writer io.Writer, options *DataExportOptions, calls ...CallOption,
) (*DataExportResult, error) {
	const operation = "data.export_stream"
	if writer == nil {
		return nil, invalid(operation, "the writer is nil")
	}
	pipe := &archivePipe{writer: writer}
	return through[DataExportResult](ctx, d, operation, options, calls, pipe, func(
		call *byteCall, handle C.uintptr_t, result **C.char, failed **C.dunnage_error,
	) C.dunnage_status {
		return C.dunnage_go_export_stream(call.engine, call.id, call.options, call.with, handle, result, failed)
	})
}

// ImportFrom does data.import_stream: puts an archive that is read from a reader into the data directory, all of it, at
// once, or nothing. The options name neither a source nor a descriptor; nil stands for the defaults.
//
// The reader is called as the writer of [Data.ExportTo] is, up to its end. Its error other than [io.EOF] ends the
// import, and errors.Is finds it in the one that is returned. After any error the data is as it was, and the workspace
// runs if it ran.
func (d *Data) ImportFrom(
	ctx context.Context, reader io.Reader, options *DataImportOptions, calls ...CallOption,
) (*DataImportResult, error) {
	const operation = "data.import_stream"
	if reader == nil {
		return nil, invalid(operation, "the reader is nil")
	}
	pipe := &archivePipe{reader: reader}
	return through[DataImportResult](ctx, d, operation, options, calls, pipe, func(
		call *byteCall, handle C.uintptr_t, result **C.char, failed **C.dunnage_error,
	) C.dunnage_status {
		return C.dunnage_go_import_stream(call.engine, call.id, call.options, call.with, handle, result, failed)
	})
}

// through runs a call whose archive goes through a pipe.
func through[R any, O any](
	ctx context.Context, d *Data, operation string, options *O, calls []CallOption, pipe *archivePipe,
	do func(call *byteCall, handle C.uintptr_t, result **C.char, failed **C.dunnage_error) C.dunnage_status,
) (*R, error) {
	call, err := beginBytes(ctx, d.ws, operation, options, calls)
	if err != nil {
		return nil, err
	}
	defer call.finish()
	handle := cgo.NewHandle(pipe)
	defer handle.Delete()
	var result *C.char
	var failed *C.dunnage_error
	status := do(call, C.uintptr_t(handle), &result, &failed)
	if pipe.panicked {
		C.dunnage_string_free(result)
		C.dunnage_error_free(failed)
		panic(pipe.panic)
	}
	if err := takeError(ctx, status, failed); err != nil {
		var told *Error
		if errors.As(err, &told) && told.cause == nil && told.Code != CodeCancelled {
			told.cause = pipe.err
		}
		return nil, err
	}
	return takeJSON[R](operation, result)
}

// archivePipe is the Go end of an archive on its way. The library calls it once at a time.
type archivePipe struct {
	writer   io.Writer
	reader   io.Reader
	ended    bool
	err      error
	panicked bool
	panic    any
}

// guard runs what is the program's own: no panic must reach C.
func (p *archivePipe) guard(work func()) {
	p.panicked = true
	defer func() {
		if p.panicked {
			p.panic = recover()
		}
	}()
	work()
	p.panicked = false
}

func (p *archivePipe) write(bytes []byte) bool {
	p.guard(func() {
		count, err := p.writer.Write(bytes)
		if err == nil && count < len(bytes) {
			err = io.ErrShortWrite
		}
		p.err = err
	})
	return p.err == nil && !p.panicked
}

// read returns -1 when the reader has failed.
func (p *archivePipe) read(room []byte) int {
	count := 0
	p.guard(func() {
		// An error that came with bytes is told after them.
		for empty := 0; p.err == nil && !p.ended && count == 0; empty++ {
			if count, p.err = p.reader.Read(room); count < 0 || count > len(room) {
				count, p.err = 0, errors.New("the reader returned an impossible count")
			}
			if p.err == io.EOF {
				p.ended, p.err = true, nil
			} else if p.err == nil && empty == maxEmptyReads {
				p.err = io.ErrNoProgress
			}
		}
	})
	switch {
	case p.panicked:
		return -1
	case count > 0:
		return count
	case p.err != nil:
		return -1
	default:
		return 0
	}
}

//export dunnageGoWrite
func dunnageGoWrite(handle C.uintptr_t, bytes *C.uint8_t, length C.size_t) C.int {
	pipe, ok := cgo.Handle(handle).Value().(*archivePipe)
	if ok && pipe.write(unsafe.Slice((*byte)(unsafe.Pointer(bytes)), int(length))) {
		return 0
	}
	return 1
}

//export dunnageGoRead
func dunnageGoRead(handle C.uintptr_t, bytes *C.uint8_t, capacity C.size_t) C.ptrdiff_t {
	pipe, ok := cgo.Handle(handle).Value().(*archivePipe)
	if !ok {
		return -1
	}
	return C.ptrdiff_t(pipe.read(unsafe.Slice((*byte)(unsafe.Pointer(bytes)), int(capacity))))
}
