package dunnage

/*
#include <stdlib.h>
#include <dunnage.h>
*/
import "C"

import (
	"context"
	"io"
	"runtime"
	"syscall"
	"unsafe"
)

// Output is a command that has run, with what it wrote.
type Output struct {
	ExecResult
	// Stdout is its standard output: the first MaxOutputBytes, then the last TailBytes of the rest.
	Stdout []byte
	// Stderr is its standard error, in the same way.
	Stderr []byte
}

// Input gives a command of Run these bytes as its standard input.
func Input(bytes []byte) CallOption {
	return func(call *callState) { call.input = bytes }
}

// Run does exec.run: runs a command to its end and collects its output. A command that fails is no error: look at
// ExitCode. When the context ends, the command is killed. For a program with arguments and no shell leave command empty
// and set Args.
func (e *Exec) Run(ctx context.Context, command string, options *RunOptions, calls ...CallOption) (*Output, error) {
	var all RunOptions
	if options != nil {
		all = *options
	}
	all.Command = command
	call, err := beginBytes(ctx, e.ws, "exec.run", &all, calls)
	if err != nil {
		return nil, err
	}
	defer call.finish()
	input := newCall(calls).input
	data, length := pointer(input)
	var result *C.char
	var stdout, stderr C.dunnage_buffer
	var failed *C.dunnage_error
	status := C.dunnage_exec_run(call.engine, call.id, call.options, data, length, call.with,
		&result, &stdout, &stderr, &failed)
	runtime.KeepAlive(input)
	if status != C.DUNNAGE_OK {
		return nil, takeError(ctx, status, failed)
	}
	output := &Output{Stdout: takeBuffer(&stdout), Stderr: takeBuffer(&stderr)}
	decoded, err := takeJSON[ExecResult]("exec.run", result)
	if err != nil {
		return nil, err
	}
	output.ExecResult = *decoded
	return output, nil
}

// Start does exec.spawn: starts a command with its streams open. When the context ends, the command is killed, or, with
// Detach, let go of. Close the process. For a program with arguments and no shell leave command empty and set Args; for
// the user's shell on a terminal leave both empty and set PTY.
func (e *Exec) Start(ctx context.Context, command string, options *ExecOptions, calls ...CallOption) (*Process, error) {
	var all ExecOptions
	if options != nil {
		all = *options
	}
	all.Command = command
	call, err := beginBytes(ctx, e.ws, "exec.spawn", &all, calls)
	if err != nil {
		return nil, err
	}
	defer call.finishArguments()
	var handle *C.dunnage_process
	var failed *C.dunnage_error
	status := C.dunnage_exec_spawn(call.engine, call.id, call.options, call.with, &handle, &failed)
	if status != C.DUNNAGE_OK {
		call.end()
		return nil, takeError(ctx, status, failed)
	}
	return newProcess(ctx, handle, call.end), nil
}

// Attach does exec.attach: attaches to a session, with its streams: first the output it has kept, then what is new. When
// the context ends, and when the process is closed, the session goes on.
func (e *Exec) Attach(ctx context.Context, sessionID string, options *AttachOptions, calls ...CallOption) (*Process, error) {
	var all AttachOptions
	if options != nil {
		all = *options
	}
	all.SessionID = sessionID
	call, err := beginBytes(ctx, e.ws, "exec.attach", &all, calls)
	if err != nil {
		return nil, err
	}
	defer call.finishArguments()
	var handle *C.dunnage_process
	var failed *C.dunnage_error
	status := C.dunnage_exec_attach(call.engine, call.id, call.options, call.with, &handle, &failed)
	if status != C.DUNNAGE_OK {
		call.end()
		return nil, takeError(ctx, status, failed)
	}
	return newProcess(ctx, handle, call.end), nil
}

func newProcess(ctx context.Context, handle *C.dunnage_process, end func()) *Process {
	process := &Process{handle: handle, ctx: ctx}
	if id := C.dunnage_process_session_id(handle); id != nil {
		process.session = C.GoString(id)
	}
	process.ref.free = func() {
		C.dunnage_process_free(handle)
		end()
	}
	process.stopWatch = context.AfterFunc(ctx, func() {
		if process.session == "" {
			process.Kill()
		} else {
			process.Detach()
		}
	})
	process.Stdin = &stdin{process}
	return process
}

// A Stream says which output of a process a piece came from.
type Stream int

// The streams of a process.
const (
	// Stdout is standard output; all output of a process on a terminal.
	Stdout Stream = C.DUNNAGE_STREAM_STDOUT
	// Stderr is standard error.
	Stderr Stream = C.DUNNAGE_STREAM_STDERR
)

// A Process is a running command with its streams. Different goroutines may read, write and signal at the same time.
type Process struct {
	// Stdin is its standard input. Closing it is what ends many commands.
	Stdin io.WriteCloser

	handle    *C.dunnage_process
	session   string
	ref       ref
	ctx       context.Context
	stopWatch func() bool
}

// Next waits for the next piece of output, of either stream, in the order it was written; io.EOF when the process has
// exited and all of it was read. Output that nobody reads makes the process wait when it writes more.
func (p *Process) Next() (Stream, []byte, error) {
	if !p.ref.acquire() {
		return 0, nil, closed("exec.spawn", "process")
	}
	defer p.ref.release()
	var stream C.dunnage_stream
	var chunk C.dunnage_buffer
	var failed *C.dunnage_error
	if status := C.dunnage_process_read(p.handle, -1, &stream, &chunk, &failed); status != C.DUNNAGE_OK {
		return 0, nil, takeError(p.ctx, status, failed)
	}
	if stream == C.DUNNAGE_STREAM_END {
		return 0, nil, io.EOF
	}
	return Stream(stream), takeBuffer(&chunk), nil
}

// Copy reads all output to its end and writes it where it belongs; nil stands for io.Discard. When a writer fails, that
// stream is discarded, and the first failure returned at the end: the process is never held up by it.
func (p *Process) Copy(stdout, stderr io.Writer) error {
	var first error
	for {
		stream, bytes, err := p.Next()
		if err == io.EOF {
			return first
		}
		if err != nil {
			return err
		}
		to := &stdout
		if stream == Stderr {
			to = &stderr
		}
		if *to == nil {
			continue
		}
		if _, err := (*to).Write(bytes); err != nil {
			*to = nil
			if first == nil {
				first = err
			}
		}
	}
}

// Output is its standard output as a reader, for processes on a terminal and those without standard error: what comes
// on standard error goes to stderr, or is dropped when that is nil.
func (p *Process) Output(stderr io.Writer) io.Reader {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(p.Copy(writer, stderr)) }()
	return reader
}

// Wait waits until it has exited. It does not read its output. The context ends the waiting, not the process.
func (p *Process) Wait(ctx context.Context) (*ExitStatus, error) {
	for {
		status, err := p.wait(100)
		if KindOf(err) != CodeTimeout {
			return status, err
		}
		if ctx.Err() != nil {
			return nil, cancelled("exec.spawn", ctx)
		}
	}
}

func (p *Process) wait(limit int64) (*ExitStatus, error) {
	if !p.ref.acquire() {
		return nil, closed("exec.spawn", "process")
	}
	defer p.ref.release()
	var result *C.char
	var failed *C.dunnage_error
	if status := C.dunnage_process_wait(p.handle, C.int64_t(limit), nil, &result, &failed); status != C.DUNNAGE_OK {
		return nil, takeError(nil, status, failed)
	}
	return takeJSON[ExitStatus]("exec.spawn", result)
}

// PID is its process id inside the workspace; 0 where the agent is too old to tell, and after Close.
func (p *Process) PID() int {
	if !p.ref.acquire() {
		return 0
	}
	defer p.ref.release()
	return int(C.dunnage_process_pid(p.handle))
}

// SessionID is the id by which it can be attached to; empty when it is no session.
func (p *Process) SessionID() string { return p.session }

// Detach lets go of a session: it goes on, and can be attached to again. After the exit it does nothing.
func (p *Process) Detach() error {
	return p.do(func(failed **C.dunnage_error) C.dunnage_status { return C.dunnage_process_detach(p.handle, failed) })
}

// SignalName sends a signal to its process group, by a name such as "SIGTERM" or "TERM", or a number in digits. After the
// exit it does nothing.
func (p *Process) SignalName(name string) error {
	text, err := cString("exec.signal", "signal", name)
	if err != nil {
		return err
	}
	defer C.free(unsafe.Pointer(text))
	return p.do(func(failed **C.dunnage_error) C.dunnage_status {
		return C.dunnage_process_signal_name(p.handle, text, failed)
	})
}

// Signal sends a signal to its process group. After the exit it does nothing.
func (p *Process) Signal(signal syscall.Signal) error {
	return p.do(func(failed **C.dunnage_error) C.dunnage_status {
		return C.dunnage_process_signal(p.handle, C.int32_t(signal), failed)
	})
}

// Resize sets the size of its terminal.
func (p *Process) Resize(cols, rows uint32) error {
	return p.do(func(failed **C.dunnage_error) C.dunnage_status {
		return C.dunnage_process_resize(p.handle, C.uint32_t(cols), C.uint32_t(rows), failed)
	})
}

// Kill kills its process group and waits for the exit. After the exit it does nothing.
func (p *Process) Kill() error {
	return p.do(func(failed **C.dunnage_error) C.dunnage_status { return C.dunnage_process_kill(p.handle, failed) })
}

// Close lets go of the process, and kills it unless it has exited or is a session. Closing twice is no error.
func (p *Process) Close() error {
	if p.stopWatch != nil {
		p.stopWatch()
	}
	var status C.dunnage_status
	var failed *C.dunnage_error
	p.ref.shut(func() {
		if p.session == "" {
			status = C.dunnage_process_kill(p.handle, &failed)
		} else {
			status = C.dunnage_process_detach(p.handle, &failed)
		}
	})
	return takeError(nil, status, failed)
}

func (p *Process) do(work func(**C.dunnage_error) C.dunnage_status) error {
	if !p.ref.acquire() {
		return closed("exec.spawn", "process")
	}
	defer p.ref.release()
	var failed *C.dunnage_error
	return takeError(nil, work(&failed), failed)
}

type stdin struct{ process *Process }

func (s *stdin) Write(data []byte) (int, error) {
	bytes, length := pointer(data)
	err := s.process.do(func(failed **C.dunnage_error) C.dunnage_status {
		return C.dunnage_process_write(s.process.handle, bytes, length, failed)
	})
	runtime.KeepAlive(data)
	if err != nil {
		return 0, err
	}
	return len(data), nil
}

func (s *stdin) Close() error {
	return s.process.do(func(failed **C.dunnage_error) C.dunnage_status {
		return C.dunnage_process_close_stdin(s.process.handle, failed)
	})
}
