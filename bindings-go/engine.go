package dunnage

/*
#include <stdlib.h>
#include <dunnage.h>
*/
import "C"

import (
	"context"
	"runtime"
	"unsafe"
)

// An Engine keeps workspaces: the library's entry point.
type Engine struct {
	// Images are the images of the engine's backend.
	Images *Images

	handle *C.dunnage_engine
	ref    ref
}

// Images are the images of an engine's backend.
type Images struct{ engine *Engine }

// Version is the version of the C library that is loaded.
func Version() string { return C.GoString(C.dunnage_version()) }

// Open opens an engine. Nil takes the file that $DUNNAGE_CONFIG names, or the defaults, and the other DUNNAGE_…
// variables over it. Close it when it is no longer needed.
func Open(ctx context.Context, config *Config, calls ...CallOption) (*Engine, error) {
	var text *C.char
	if config != nil {
		encoded, err := encode("engine.open", config)
		if err != nil {
			return nil, err
		}
		text = C.CString(encoded)
		defer C.free(unsafe.Pointer(text))
	}
	return open(ctx, calls, func(with *C.dunnage_call, engine **C.dunnage_engine, failed **C.dunnage_error) C.dunnage_status {
		return C.dunnage_engine_open(text, with, engine, failed)
	})
}

// OpenJSON opens an engine with its configuration as JSON.
func OpenJSON(ctx context.Context, config string, calls ...CallOption) (*Engine, error) {
	text, err := cString("engine.open", "config", config)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(text))
	return open(ctx, calls, func(with *C.dunnage_call, engine **C.dunnage_engine, failed **C.dunnage_error) C.dunnage_status {
		return C.dunnage_engine_open(text, with, engine, failed)
	})
}

// OpenFile opens an engine as a configuration file says: JSON when its name ends in .json, else TOML.
func OpenFile(ctx context.Context, path string, calls ...CallOption) (*Engine, error) {
	name, err := cString("engine.open", "path", path)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(name))
	return open(ctx, calls, func(with *C.dunnage_call, engine **C.dunnage_engine, failed **C.dunnage_error) C.dunnage_status {
		return C.dunnage_engine_open_file(name, with, engine, failed)
	})
}

func open(
	ctx context.Context,
	calls []CallOption,
	begin func(*C.dunnage_call, **C.dunnage_engine, **C.dunnage_error) C.dunnage_status,
) (*Engine, error) {
	if err := ctx.Err(); err != nil {
		return nil, cancelled("engine.open", ctx)
	}
	with, _, end := newCall(calls).prepare(ctx)
	defer end()
	var failed *C.dunnage_error
	var handle *C.dunnage_engine
	if status := begin(with, &handle, &failed); status != C.DUNNAGE_OK {
		return nil, takeError(ctx, status, failed)
	}
	engine := &Engine{handle: handle}
	engine.ref.free = func() { C.dunnage_engine_free(handle) }
	engine.Images = &Images{engine: engine}
	// A safety net for hosts that forget to close.
	runtime.SetFinalizer(engine, func(e *Engine) { go e.Close() })
	return engine, nil
}

// Close closes the engine: operations that run are cancelled and undone, or, past their point of no return, completed.
// Workspaces go on running. Closing twice is no error.
func (e *Engine) Close() error {
	runtime.SetFinalizer(e, nil)
	var status C.dunnage_status
	var failed *C.dunnage_error
	e.ref.shut(func() { status = C.dunnage_engine_close(e.handle, &failed) })
	return takeError(nil, status, failed)
}

// Workspace is the handle of a workspace. It does nothing; a malformed id shows in the first call.
func (e *Engine) Workspace(id string) *Workspace {
	ws := &Workspace{id: id, engine: e}
	ws.FS = &FS{ws}
	ws.Exec = &Exec{ws}
	ws.Data = &Data{ws}
	ws.Snapshots = &Snapshots{ws}
	ws.Skills = &Skills{ws}
	ws.MCP = &MCP{ws}
	ws.Tools = &Tools{ws}
	return ws
}

// use begins a call on the engine. release must be called when it has ended.
func (e *Engine) use(operation string) (handle *C.dunnage_engine, release func(), err error) {
	if e == nil || !e.ref.acquire() {
		return nil, nil, closed(operation, "engine")
	}
	return e.handle, e.ref.release, nil
}

func (e *Engine) target() target { return target{engine: e} }

func (i *Images) target() target { return target{engine: i.engine} }

// A Workspace is the handle of one workspace: an id and the engine.
type Workspace struct {
	// FS are the files inside. A relative path is under the data directory.
	FS *FS
	// Exec are the commands inside.
	Exec *Exec
	// Data is its data directory: taken out, put in, preserved.
	Data *Data
	// Snapshots are its versions.
	Snapshots *Snapshots
	// Skills are its skills.
	Skills *Skills
	// MCP are the MCP servers inside.
	MCP *MCP
	// Tools are tools for language models.
	Tools *Tools

	id     string
	engine *Engine
}

// FS are the files of a workspace.
type FS struct{ ws *Workspace }

// Exec are the commands of a workspace.
type Exec struct{ ws *Workspace }

// Data is the data directory of a workspace: what is meant to outlive its container.
type Data struct{ ws *Workspace }

// Snapshots are the versions of a workspace.
type Snapshots struct{ ws *Workspace }

// Skills are the skills of a workspace: folders with a SKILL.md.
type Skills struct{ ws *Workspace }

// MCP are the MCP servers that run inside a workspace.
type MCP struct{ ws *Workspace }

// Tools are tools for language models that work inside a workspace.
type Tools struct{ ws *Workspace }

// ID is the workspace's id.
func (w *Workspace) ID() string { return w.id }

func (w *Workspace) target() target { return target{engine: w.engine, workspace: &w.id} }

func (f *FS) target() target { return f.ws.target() }

func (e *Exec) target() target { return e.ws.target() }

func (d *Data) target() target { return d.ws.target() }

func (s *Snapshots) target() target { return s.ws.target() }

func (s *Skills) target() target { return s.ws.target() }

func (m *MCP) target() target { return m.ws.target() }

func (t *Tools) target() target { return t.ws.target() }
