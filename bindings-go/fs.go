package dunnage

/*
#include <dunnage.h>
*/
import "C"

import (
	"context"
	"io"
	"runtime"
)

// ReadFile does fs.read: reads a file, or a part of one, into memory.
func (f *FS) ReadFile(ctx context.Context, path string, options *ReadOptions, calls ...CallOption) ([]byte, error) {
	var all ReadOptions
	if options != nil {
		all = *options
	}
	all.Path = path
	call, err := beginBytes(ctx, f.ws, "fs.read", &all, calls)
	if err != nil {
		return nil, err
	}
	defer call.finish()
	var content C.dunnage_buffer
	var failed *C.dunnage_error
	status := C.dunnage_fs_read(call.engine, call.id, call.options, call.with, &content, &failed)
	if status != C.DUNNAGE_OK {
		return nil, takeError(ctx, status, failed)
	}
	return takeBuffer(&content), nil
}

// WriteFile does fs.write: replaces a file by these bytes, at once or not at all.
func (f *FS) WriteFile(
	ctx context.Context, path string, content []byte, options *WriteOptions, calls ...CallOption,
) (*WriteResult, error) {
	var all WriteOptions
	if options != nil {
		all = *options
	}
	all.Path = path
	call, err := beginBytes(ctx, f.ws, "fs.write", &all, calls)
	if err != nil {
		return nil, err
	}
	defer call.finish()
	data, length := pointer(content)
	var result *C.char
	var failed *C.dunnage_error
	status := C.dunnage_fs_write(call.engine, call.id, call.options, data, length, call.with, &result, &failed)
	runtime.KeepAlive(content)
	if status != C.DUNNAGE_OK {
		return nil, takeError(ctx, status, failed)
	}
	return takeJSON[WriteResult]("fs.write", result)
}

// Open does fs.open_read: opens a file for reading piece by piece. The context goes on to end reads that wait. Close
// the reader.
func (f *FS) Open(ctx context.Context, path string, options *OpenReadOptions, calls ...CallOption) (*Reader, error) {
	var all OpenReadOptions
	if options != nil {
		all = *options
	}
	all.Path = path
	call, err := beginBytes(ctx, f.ws, "fs.open_read", &all, calls)
	if err != nil {
		return nil, err
	}
	defer call.finishArguments()
	var handle *C.dunnage_reader
	var failed *C.dunnage_error
	status := C.dunnage_fs_open_read(call.engine, call.id, call.options, call.with, &handle, &failed)
	if status != C.DUNNAGE_OK {
		call.end()
		return nil, takeError(ctx, status, failed)
	}
	reader, end := &Reader{handle: handle, ctx: ctx}, call.end
	reader.ref.free = func() {
		C.dunnage_reader_free(handle)
		end()
	}
	runtime.SetFinalizer(reader, func(r *Reader) { go r.Close() })
	return reader, nil
}

// Create does fs.open_write: opens a file for writing piece by piece. It takes the old one's place by Finish, and not
// before. The context goes on to end writes that wait. Close the writer, also after Finish.
func (f *FS) Create(ctx context.Context, path string, options *WriteOptions, calls ...CallOption) (*Writer, error) {
	var all WriteOptions
	if options != nil {
		all = *options
	}
	all.Path = path
	call, err := beginBytes(ctx, f.ws, "fs.open_write", &all, calls)
	if err != nil {
		return nil, err
	}
	defer call.finishArguments()
	var handle *C.dunnage_writer
	var failed *C.dunnage_error
	status := C.dunnage_fs_open_write(call.engine, call.id, call.options, call.with, &handle, &failed)
	if status != C.DUNNAGE_OK {
		call.end()
		return nil, takeError(ctx, status, failed)
	}
	writer, end := &Writer{handle: handle, ctx: ctx}, call.end
	writer.ref.free = func() {
		C.dunnage_writer_free(handle)
		end()
	}
	runtime.SetFinalizer(writer, func(w *Writer) { go w.Close() })
	return writer, nil
}

// A Reader is a file that is read piece by piece: an io.ReadCloser.
type Reader struct {
	handle *C.dunnage_reader
	ref    ref
	ctx    context.Context
}

// Size is the length of the file when it was opened; -1 where the agent does not tell.
func (r *Reader) Size() int64 {
	if !r.ref.acquire() {
		return -1
	}
	defer r.ref.release()
	return int64(C.dunnage_reader_size(r.handle))
}

// Read reads the next bytes; io.EOF at the end.
func (r *Reader) Read(into []byte) (int, error) {
	if len(into) == 0 {
		return 0, nil
	}
	if !r.ref.acquire() {
		return 0, closed("fs.open_read", "reader")
	}
	defer r.ref.release()
	data, capacity := pointer(into)
	var count C.size_t
	var failed *C.dunnage_error
	status := C.dunnage_reader_read(r.handle, data, capacity, &count, &failed)
	runtime.KeepAlive(into)
	if status != C.DUNNAGE_OK {
		return 0, takeError(r.ctx, status, failed)
	}
	if count == 0 {
		return 0, io.EOF
	}
	return int(count), nil
}

// Close closes the reader. Closing twice is no error.
func (r *Reader) Close() error {
	runtime.SetFinalizer(r, nil)
	r.ref.shut(func() {})
	return nil
}

// A Writer is a file that is written piece by piece: an io.Writer.
type Writer struct {
	handle *C.dunnage_writer
	ref    ref
	ctx    context.Context
}

// Write writes bytes after those written before. After an error the file is given up.
func (w *Writer) Write(data []byte) (int, error) {
	if !w.ref.acquire() {
		return 0, closed("fs.open_write", "writer")
	}
	defer w.ref.release()
	bytes, length := pointer(data)
	var failed *C.dunnage_error
	status := C.dunnage_writer_write(w.handle, bytes, length, &failed)
	runtime.KeepAlive(data)
	if status != C.DUNNAGE_OK {
		return 0, takeError(w.ctx, status, failed)
	}
	return len(data), nil
}

// Finish puts the file in its place.
func (w *Writer) Finish() (*WriteResult, error) {
	if !w.ref.acquire() {
		return nil, closed("fs.open_write", "writer")
	}
	defer w.ref.release()
	var result *C.char
	var failed *C.dunnage_error
	if status := C.dunnage_writer_finish(w.handle, &result, &failed); status != C.DUNNAGE_OK {
		return nil, takeError(w.ctx, status, failed)
	}
	return takeJSON[WriteResult]("fs.open_write", result)
}

// Close lets go of the writer. A file that was not finished is given up: what was there before stays. Closing twice is
// no error.
func (w *Writer) Close() error {
	runtime.SetFinalizer(w, nil)
	var status C.dunnage_status
	var failed *C.dunnage_error
	w.ref.shut(func() { status = C.dunnage_writer_abort(w.handle, &failed) })
	return takeError(nil, status, failed)
}
