package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"dunnage"
)

// natives are the cases that are written by hand.
var natives = map[string]func(*run) error{
	"native.bad_arguments":            badArguments,
	"native.callback_fails":           callbackFails,
	"native.callback_sleeps":          callbackSleeps,
	"native.callback_calls_back":      callbackCallsBack,
	"native.cancel":                   cancelCall,
	"native.items":                    itemsCome,
	"native.items_cancelled":          itemsCancelled,
	"native.many_calls_one_engine":    manyCallsOneEngine,
	"native.many_calls_one_workspace": manyCallsOneWorkspace,
	"native.twenty_workspaces":        twentyWorkspaces,
	"native.close_while_running":      closeWhileRunning,
	"native.process":                  processStreams,
	"native.process_dropped":          processDropped,
	"native.session":                  sessionGoesOn,
	"native.terminal":                 terminalIsAStream,
	"native.writer_aborted":           writerAborted,
	"native.no_leaks":                 noLeaks,
	"data.export_stream":              dataExportStream,
	"data.import_stream":              dataImportStream,
}

var background = context.Background()

// image is an image of the environment.
func (r *run) image(name string) string {
	value, _ := at(r.environment, "images."+name)
	text, _ := value.(string)
	return text
}

// workspace makes one that runs; the returned function deletes it.
func (r *run) workspace(calls ...dunnage.CallOption) (*dunnage.Workspace, func(), error) {
	ws := r.engine.Workspace(fresh())
	_, err := ws.Create(background, &dunnage.CreateOptions{Image: r.image("busybox")}, calls...)
	return ws, func() { r.remove(map[string]bool{ws.ID(): true}) }, err
}

func want(err error, kind dunnage.Code, doing string) error {
	if dunnage.KindOf(err) != kind {
		return fmt.Errorf("%s: expected %s, got %v", doing, kind, err)
	}
	return nil
}

func badArguments(r *run) error {
	const kind = dunnage.CodeInvalidArgument
	_, list := r.engine.Call(background, "engine.health", "", []byte("[]"))
	_, malformed := r.engine.Call(background, "engine.health", "", []byte("{"))
	_, unknown := r.engine.Call(background, "no.such", "", nil)
	_, bytes := r.engine.Call(background, "exec.run", "a", []byte(`{"command":"true"}`))
	_, notUTF8 := r.engine.Workspace("a\xff").Info(background, nil)
	_, nul := r.engine.Workspace("a\x00b").Info(background, nil)
	_, nulOptions := r.engine.Call(background, "engine.health", "", []byte("{\x00}"))
	_, wrongType := r.engine.Call(background, "engine.list", "", []byte(`{"limit":"many"}`))
	return errors.Join(want(list, kind, "a list"), want(malformed, kind, "malformed"), want(unknown, kind, "unknown"),
		want(bytes, kind, "bytes"), want(notUTF8, kind, "not UTF-8"), want(nul, kind, "NUL"),
		want(nulOptions, kind, "NUL in options"), want(wrongType, kind, "wrong type"))
}

func callbackFails(r *run) error {
	seen := 0
	ws, remove, err := r.workspace(dunnage.OnEvent(func(dunnage.Event) {
		seen++
		panic("a fault of the host")
	}))
	defer remove()
	if err != nil {
		return err
	}
	if seen == 0 {
		return fmt.Errorf("the callback was not called")
	}
	info, err := ws.Info(background, nil)
	if err != nil || !info.TaskRunning {
		return fmt.Errorf("it does not run: %v %v", info, err)
	}
	return nil
}

func callbackSleeps(r *run) error {
	var kinds []dunnage.EventType
	_, remove, err := r.workspace(dunnage.OnEvent(func(e dunnage.Event) {
		time.Sleep(200 * time.Millisecond)
		kinds = append(kinds, e.Type)
	}))
	defer remove()
	if err != nil {
		return err
	}
	if len(kinds) == 0 || kinds[len(kinds)-1] != dunnage.EventTypeComplete {
		return fmt.Errorf("the events were %v", kinds)
	}
	return nil
}

func callbackCallsBack(r *run) error {
	var failure error
	_, remove, err := r.workspace(dunnage.OnEvent(func(dunnage.Event) {
		if _, err := r.engine.Health(background, nil); err != nil {
			failure = err
		}
	}))
	defer remove()
	return errors.Join(err, failure)
}

func cancelCall(r *run) error {
	ws, remove, err := r.workspace()
	defer remove()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(background)
	time.AfterFunc(200*time.Millisecond, func() {
		cancel()
		cancel()
	})
	_, err = ws.Exec.Run(ctx, "sleep 1000", nil)
	if failed := want(err, dunnage.CodeCancelled, "cancelled run"); failed != nil {
		return failed
	}
	if !errors.Is(err, context.Canceled) || !errors.Is(err, dunnage.ErrCancelled) {
		return fmt.Errorf("it matches neither the context's error nor the kind: %v", err)
	}
	deadline, stop := context.WithTimeout(background, 200*time.Millisecond)
	defer stop()
	_, err = ws.Exec.Run(deadline, "sleep 60", nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a deadline: %v", err)
	}
	_, err = ws.Info(ctx, nil)
	return want(err, dunnage.CodeCancelled, "a context that ended before")
}

// brief makes a workspace that does not run, and removes it.
func (r *run) brief(id string) error {
	ws := r.engine.Workspace(id)
	options := &dunnage.CreateOptions{Image: r.image("busybox"), Start: dunnage.Ptr(false)}
	if _, err := ws.Create(background, options); err != nil {
		return err
	}
	_, err := ws.Delete(background, nil)
	return err
}

// another opens an engine like that of the run.
func (r *run) another() (*dunnage.Engine, error) {
	config, err := (&vars{environment: r.environment}).fill(r.suite.Config)
	if err != nil {
		return nil, err
	}
	var typed dunnage.Config
	if err := convert(config, &typed); err != nil {
		return nil, err
	}
	return dunnage.Open(background, &typed)
}

func itemsCome(r *run) error {
	second, err := r.another()
	if err != nil {
		return err
	}
	defer second.Close()
	// A pull is told too.
	if _, err := second.Images.Pull(background, r.image("busybox"), nil); err != nil {
		return err
	}
	id := fresh()
	own := &dunnage.EventsOptions{Workspace: id}
	events, err := second.Events(background, own)
	if err != nil {
		return err
	}
	if err := r.brief(id); err != nil {
		return err
	}
	last := uint64(0)
	for _, kind := range []dunnage.LifecycleKind{dunnage.LifecycleKindCreate, dunnage.LifecycleKindDelete} {
		time.Sleep(100 * time.Millisecond)
		event, ok := <-events.C
		if !ok || event.Kind != kind || event.Sequence <= last {
			return fmt.Errorf("expected %s, got %+v %v", kind, event, events.Err())
		}
		last = event.Sequence
	}
	if err := errors.Join(events.Close(), events.Close()); err != nil {
		return err
	}
	if _, ok := <-events.C; ok || events.Err() != nil {
		return fmt.Errorf("after Close: %v", events.Err())
	}
	if events, err = second.Events(background, own); err != nil {
		return err
	}
	if err := second.Close(); err != nil {
		return err
	}
	if _, ok := <-events.C; ok || events.Err() != nil {
		return fmt.Errorf("after the engine's end: %v", events.Err())
	}
	_, err = second.Events(background, own)
	return want(err, dunnage.CodeFailedPrecondition, "on a closed engine")
}

func itemsCancelled(r *run) error {
	ctx, cancel := context.WithCancel(background)
	events, err := r.engine.Events(ctx, nil)
	if err != nil {
		return err
	}
	time.AfterFunc(50*time.Millisecond, cancel)
	if event, ok := <-events.C; ok {
		return fmt.Errorf("an event came: %+v", event)
	}
	if err := events.Err(); !errors.Is(err, context.Canceled) || !errors.Is(err, dunnage.ErrCancelled) {
		return fmt.Errorf("it matches neither the context's error nor the kind: %v", err)
	}
	// Nobody receives what has come: the end is not held up by it.
	ctx, cancel = context.WithCancel(background)
	defer cancel()
	left, err := r.engine.Events(ctx, &dunnage.EventsOptions{After: dunnage.Ptr(uint64(0))})
	if err != nil {
		return err
	}
	if err := r.brief(fresh()); err != nil {
		return err
	}
	return left.Close()
}

// all runs n functions at once and joins their failures.
func all(n int, f func(int) error) error {
	failures := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Add(1)
		go func() {
			defer group.Done()
			failures[i] = f(i)
		}()
	}
	group.Wait()
	return errors.Join(failures...)
}

func manyCallsOneEngine(r *run) error {
	return all(200, func(int) error {
		health, err := r.engine.Health(background, nil)
		if err == nil && !health.Healthy {
			err = fmt.Errorf("not healthy: %v", health.Problems)
		}
		return err
	})
}

func manyCallsOneWorkspace(r *run) error {
	ws, remove, err := r.workspace()
	defer remove()
	if err != nil {
		return err
	}
	return all(200, func(i int) error {
		output, err := ws.Exec.Run(background, fmt.Sprintf("echo number %d", i), nil)
		if err == nil && string(output.Stdout) != fmt.Sprintf("number %d\n", i) {
			err = fmt.Errorf("command %d said %q", i, output.Stdout)
		}
		return err
	})
}

func twentyWorkspaces(r *run) error {
	made := make([]*dunnage.Workspace, 20)
	for i := range made {
		made[i] = r.engine.Workspace(fresh())
	}
	failed := all(len(made), func(i int) error {
		result, err := made[i].Create(background, &dunnage.CreateOptions{Image: r.image("busybox")})
		if err == nil && !(result.Created && result.Started) {
			err = fmt.Errorf("%s: %+v", made[i].ID(), result)
		}
		return err
	})
	return errors.Join(failed, all(len(made), func(i int) error {
		_, err := made[i].Delete(background, &dunnage.DeleteOptions{GraceMs: dunnage.Ptr(uint64(0))})
		return err
	}))
}

func closeWhileRunning(r *run) error {
	engine, err := r.another()
	if err != nil {
		return err
	}
	ws := engine.Workspace(fresh())
	defer r.remove(map[string]bool{ws.ID(): true})
	begun := make(chan struct{})
	var once atomic.Bool
	ended := make(chan error, 1)
	go func() {
		_, err := ws.Create(background, &dunnage.CreateOptions{Image: r.image("busybox")}, dunnage.OnEvent(func(dunnage.Event) {
			if once.CompareAndSwap(false, true) {
				close(begun)
			}
		}))
		ended <- err
	}()
	<-begun
	if err := engine.Close(); err != nil {
		return err
	}
	// Undone, or past the point of no return and complete.
	if err := <-ended; err != nil && dunnage.KindOf(err) != dunnage.CodeCancelled {
		return err
	}
	_, err = engine.Health(background, nil)
	if failed := want(err, dunnage.CodeFailedPrecondition, "after the close"); failed != nil {
		return failed
	}
	return engine.Close()
}

func processStreams(r *run) error {
	ws, remove, err := r.workspace()
	defer remove()
	if err != nil {
		return err
	}
	process, err := ws.Exec.Start(background, "cat", nil)
	if err != nil {
		return err
	}
	defer process.Close()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(process.Stdin, line); err != nil {
			return err
		}
		stream, bytes, err := process.Next()
		if err != nil || stream != dunnage.Stdout || string(bytes) != line {
			return fmt.Errorf("after %q: %v %q %v", line, stream, bytes, err)
		}
	}
	if err := process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	status, err := process.Wait(background)
	if err != nil || status.ExitCode != 143 || status.Signal == nil || *status.Signal != 15 {
		return fmt.Errorf("after SIGTERM: %+v %v", status, err)
	}
	if _, _, err := process.Next(); err != io.EOF {
		return fmt.Errorf("after the end: %v", err)
	}

	shell, err := ws.Exec.Start(background, "read x; stty size", &dunnage.ExecOptions{PTY: true})
	if err != nil {
		return err
	}
	defer shell.Close()
	if err := shell.Resize(99, 33); err != nil {
		return err
	}
	if _, err := io.WriteString(shell.Stdin, "\n"); err != nil {
		return err
	}
	output, err := io.ReadAll(shell.Output(nil))
	if err != nil || !strings.Contains(string(output), "33 99") {
		return fmt.Errorf("the terminal said %q %v", output, err)
	}
	return nil
}

func processDropped(r *run) error {
	ws, remove, err := r.workspace()
	defer remove()
	if err != nil {
		return err
	}
	process, err := ws.Exec.Start(background, "exec sleep 987654", nil)
	if err != nil {
		return err
	}
	blocked := make(chan error, 1)
	go func() {
		_, _, err := process.Next()
		blocked <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if err := process.Close(); err != nil {
		return err
	}
	select {
	case <-blocked:
	case <-time.After(5 * time.Second):
		return fmt.Errorf("a read still waits after the close")
	}
	for range 50 {
		output, err := ws.Exec.Run(background, "ps | grep -c '[s]leep 987654'", nil)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(output.Stdout)) == "0" {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("the process still runs")
}

func writerAborted(r *run) error {
	ws, remove, err := r.workspace()
	defer remove()
	if err != nil {
		return err
	}
	if _, err := ws.FS.WriteFile(background, "file", []byte("before"), nil); err != nil {
		return err
	}
	writer, err := ws.FS.Create(background, "file", nil)
	if err != nil {
		return err
	}
	if _, err := writer.Write([]byte("half of it")); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	content, err := ws.FS.ReadFile(background, "file", nil)
	if err != nil || string(content) != "before" {
		return fmt.Errorf("the file holds %q %v", content, err)
	}
	_, err = writer.Write([]byte("x"))
	return want(err, dunnage.CodeFailedPrecondition, "a write after the close")
}

func noLeaks(r *run) error {
	round := func() error {
		ws, remove, err := r.workspace()
		defer remove()
		if err != nil {
			return err
		}
		_, err = ws.Exec.Run(background, "true", nil)
		return err
	}
	if err := round(); err != nil {
		return err
	}
	descriptors, goroutines := count("/proc/self/fd"), runtime.NumGoroutine()
	for range 5 {
		if err := round(); err != nil {
			return err
		}
	}
	for range 100 {
		if count("/proc/self/fd") <= descriptors && runtime.NumGoroutine() <= goroutines {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("descriptors %d, before %d; goroutines %d, before %d", count("/proc/self/fd"), descriptors,
		runtime.NumGoroutine(), goroutines)
}

func count(dir string) int {
	entries, _ := os.ReadDir(dir)
	return len(entries)
}
