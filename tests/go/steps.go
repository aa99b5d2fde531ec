package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"dunnage"
)

// came is what a step came to.
type came struct {
	result any
	output []byte
	stderr []byte
}

// errInexpressible says that the typed face has no such field: the compiler refuses what a program would have to write.
var errInexpressible = errors.New("the typed face cannot express these options")

func (r *run) step(v *vars, s step) error {
	options := map[string]any{}
	if s.Options != nil {
		filled, err := v.fill(s.Options)
		if err != nil {
			return err
		}
		options = filled.(map[string]any)
	}
	on := "${ws}"
	if s.On != nil {
		on = *s.On
	}
	id, err := v.text(on)
	if err != nil {
		return err
	}
	if id != "" {
		v.used[id] = true
	}
	input, err := v.text(s.Input)
	if err != nil {
		return err
	}
	input = strings.Repeat(input, max(s.Repeat, 1))

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var events []map[string]any
	calls := []dunnage.CallOption{dunnage.OnEvent(func(event dunnage.Event) {
		var plain map[string]any
		text, _ := json.Marshal(event)
		_ = json.Unmarshal(text, &plain)
		mu.Lock()
		events = append(events, plain)
		mu.Unlock()
		if s.CancelOn != "" && string(event.Type) == s.CancelOn {
			cancel()
		}
	})}
	if s.TimeLimitMs > 0 {
		calls = append(calls, dunnage.TimeLimit(time.Duration(s.TimeLimitMs)*time.Millisecond))
	}

	got, failure := r.do(ctx, s.Op, id, options, []byte(input), calls)
	mu.Lock()
	defer mu.Unlock()
	code := string(dunnage.KindOf(failure))
	if errors.Is(failure, errInexpressible) {
		code = "INVALID_ARGUMENT"
	} else if err := checkEvents(events, code); err != nil {
		return err
	}
	if s.ExpectError != "" {
		if failure == nil {
			return fmt.Errorf("expected %s, but it succeeded", s.ExpectError)
		}
		if code != s.ExpectError {
			return fmt.Errorf("expected %s, got %w", s.ExpectError, failure)
		}
		contains, err := v.text(s.ErrorContains)
		if err != nil {
			return err
		}
		if !strings.Contains(failure.Error(), contains) {
			return fmt.Errorf("the error has no %q: %w", contains, failure)
		}
	} else if failure != nil {
		return failure
	}
	if s.ExpectEvents != nil && !errors.Is(failure, errInexpressible) {
		if err := expectEvents(s.ExpectEvents, events); err != nil {
			return err
		}
	}
	if s.Expect != nil {
		expected, err := v.fill(s.Expect)
		if err != nil {
			return err
		}
		if err := match(expected, got.result, "result"); err != nil {
			return err
		}
	}
	if s.ExpectOutputLen != nil && len(got.output) != *s.ExpectOutputLen {
		return fmt.Errorf("output: expected %d bytes, got %d", *s.ExpectOutputLen, len(got.output))
	}
	for _, one := range []struct {
		pattern *string
		bytes   []byte
		what    string
	}{{s.ExpectOutput, got.output, "output"}, {s.ExpectStderr, got.stderr, "stderr"}} {
		if one.pattern == nil {
			continue
		}
		pattern, err := v.text(*one.pattern)
		if err != nil {
			return err
		}
		if err := matchBytes(pattern, one.bytes, one.what); err != nil {
			return err
		}
	}
	if s.Save != "" {
		v.saved[s.Save] = got.result
	}
	return nil
}

// do calls an operation through the typed face. What that cannot express goes by the untyped door, where there is one.
func (r *run) do(
	ctx context.Context, op, id string, options map[string]any, input []byte, calls []dunnage.CallOption,
) (came, error) {
	e, ws := r.engine, r.engine.Workspace(id)
	switch op {
	case "engine.open":
		return r.openAnother(ctx, options)
	case "engine.health":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.InfoOptions) (any, error) { return e.Health(ctx, &o, calls...) })
	case "engine.list":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ListOptions) (any, error) { return e.List(ctx, &o, calls...) })
	case "engine.reconcile":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ReconcileOptions) (any, error) { return e.Reconcile(ctx, &o, calls...) })
	case "engine.gc":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.GcOptions) (any, error) { return e.Gc(ctx, &o, calls...) })
	case "engine.events":
		var o dunnage.EventsOptions
		if err := convert(options, &o); err != nil {
			return came{}, fmt.Errorf("%w: %w", errInexpressible, err)
		}
		items, err := e.Events(ctx, &o, calls...)
		return gather(items, err)
	case "image.pull":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.PullOptions) (any, error) { return e.Images.Pull(ctx, o.Image, &o, calls...) })
	case "image.resolve_digest":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ImageName) (any, error) {
			return e.Images.ResolveDigest(ctx, o.Image, &o, calls...)
		})
	case "image.list":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.InfoOptions) (any, error) { return e.Images.List(ctx, &o, calls...) })
	case "image.get":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ImageName) (any, error) { return e.Images.Get(ctx, o.Image, &o, calls...) })
	case "image.delete":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ImageName) (any, error) {
			return e.Images.Delete(ctx, o.Image, &o, calls...)
		})
	case "workspace.create":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.CreateOptions) (any, error) { return ws.Create(ctx, &o, calls...) })
	case "workspace.info":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.InfoOptions) (any, error) { return ws.Info(ctx, &o, calls...) })
	case "workspace.metrics":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.MetricsOptions) (any, error) { return ws.Metrics(ctx, &o, calls...) })
	case "workspace.metrics_stream":
		var o dunnage.MetricsStreamOptions
		if err := convert(options, &o); err != nil {
			return came{}, fmt.Errorf("%w: %w", errInexpressible, err)
		}
		items, err := ws.MetricsStream(ctx, &o, calls...)
		return gather(items, err)
	case "workspace.start":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.StartOptions) (any, error) { return ws.Start(ctx, &o, calls...) })
	case "workspace.ensure_running":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.StartOptions) (any, error) { return ws.EnsureRunning(ctx, &o, calls...) })
	case "workspace.stop":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.StopOptions) (any, error) { return ws.Stop(ctx, &o, calls...) })
	case "workspace.delete":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.DeleteOptions) (any, error) { return ws.Delete(ctx, &o, calls...) })
	case "data.export":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.DataExportOptions) (any, error) { return ws.Data.Export(ctx, &o, calls...) })
	case "data.import":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.DataImportOptions) (any, error) { return ws.Data.Import(ctx, &o, calls...) })
	case "data.preserve":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.DataPreserveOptions) (any, error) { return ws.Data.Preserve(ctx, &o, calls...) })
	case "data.restore":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.DataRestoreOptions) (any, error) { return ws.Data.Restore(ctx, &o, calls...) })
	case "data.preserved":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.PreservedOptions) (any, error) { return ws.Data.Preserved(ctx, &o, calls...) })
	case "data.discard":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.DataDiscardOptions) (any, error) {
			return ws.Data.Discard(ctx, o.Generation, &o, calls...)
		})
	case "workspace.set_limits":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SetLimitsOptions) (any, error) { return ws.SetLimits(ctx, &o, calls...) })
	case "workspace.recreate":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.RecreateOptions) (any, error) { return ws.Recreate(ctx, &o, calls...) })
	case "snapshots.create":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SnapshotCreateOptions) (any, error) { return ws.Snapshots.Create(ctx, &o, calls...) })
	case "snapshots.list":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SnapshotListOptions) (any, error) { return ws.Snapshots.List(ctx, &o, calls...) })
	case "snapshots.rollback":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SnapshotRollbackOptions) (any, error) {
			return ws.Snapshots.Rollback(ctx, o.Version, &o, calls...)
		})
	case "snapshots.versions":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.VersionsOptions) (any, error) { return ws.Snapshots.Versions(ctx, &o, calls...) })
	case "snapshots.tree":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.TreeOptions) (any, error) { return ws.Snapshots.Tree(ctx, &o, calls...) })
	case "snapshots.fork":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SnapshotForkOptions) (any, error) {
			return ws.Snapshots.Fork(ctx, o.Version, o.NewID, &o, calls...)
		})
	case "skills.list":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SkillListOptions) (any, error) { return ws.Skills.List(ctx, &o, calls...) })
	case "skills.upsert":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SkillUpsertOptions) (any, error) { return ws.Skills.Upsert(ctx, o.Skills, &o, calls...) })
	case "skills.delete":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SkillDeleteOptions) (any, error) { return ws.Skills.Delete(ctx, o.Names, &o, calls...) })
	case "mcp.connect":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.McpConnectOptions) (any, error) { return ws.MCP.Connect(ctx, o.Command, &o, calls...) })
	case "mcp.list":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.InfoOptions) (any, error) { return ws.MCP.List(ctx, &o, calls...) })
	case "mcp.send":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.McpSendOptions) (any, error) {
			return ws.MCP.Send(ctx, o.ConnectionID, o.Message, &o, calls...)
		})
	case "mcp.notifications":
		var o dunnage.McpConnectionOptions
		if err := convert(options, &o); err != nil {
			return came{}, fmt.Errorf("%w: %w", errInexpressible, err)
		}
		items, err := ws.MCP.Notifications(ctx, o.ConnectionID, &o, calls...)
		return gather(items, err)
	case "mcp.close":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.McpConnectionOptions) (any, error) {
			return ws.MCP.Close(ctx, o.ConnectionID, &o, calls...)
		})
	case "tools.list":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.InfoOptions) (any, error) { return ws.Tools.List(ctx, &o, calls...) })
	case "tools.call":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ToolCallOptions) (any, error) { return ws.Tools.Call(ctx, o.Name, &o, calls...) })
	case "snapshots.diff":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SnapshotDiffOptions) (any, error) { return ws.Snapshots.Diff(ctx, &o, calls...) })
	case "snapshots.delete":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SnapshotDeleteOptions) (any, error) {
			return ws.Snapshots.Delete(ctx, o.Version, &o, calls...)
		})
	case "snapshots.prune":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SnapshotPruneOptions) (any, error) { return ws.Snapshots.Prune(ctx, &o, calls...) })
	case "exec.sessions":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SessionsOptions) (any, error) { return ws.Exec.Sessions(ctx, &o, calls...) })
	case "exec.wait":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SessionWaitOptions) (any, error) {
			return ws.Exec.Wait(ctx, o.SessionID, &o, calls...)
		})
	case "exec.signal":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SessionSignalOptions) (any, error) {
			return nil, ws.Exec.Signal(ctx, o.SessionID, o.Signal, &o, calls...)
		})
	case "exec.shell":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ShellOptions) (any, error) { return ws.Exec.Shell(ctx, &o, calls...) })
	case "fs.stat":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.StatOptions) (any, error) { return ws.FS.Stat(ctx, o.Path, &o, calls...) })
	case "fs.list":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ListDirOptions) (any, error) { return ws.FS.List(ctx, o.Path, &o, calls...) })
	case "fs.read_text":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ReadTextOptions) (any, error) {
			return ws.FS.ReadText(ctx, o.Path, &o, calls...)
		})
	case "fs.upload":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.UploadOptions) (any, error) {
			return ws.FS.Upload(ctx, o.Source, o.Path, &o, calls...)
		})
	case "fs.download":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.DownloadOptions) (any, error) {
			return ws.FS.Download(ctx, o.Path, o.Destination, &o, calls...)
		})
	case "fs.archive":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ArchiveOptions) (any, error) {
			return ws.FS.Archive(ctx, o.Path, &o, calls...)
		})
	case "fs.extract":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ExtractOptions) (any, error) {
			return ws.FS.Extract(ctx, o.Path, &o, calls...)
		})
	case "fs.mkdir":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.MkdirOptions) (any, error) {
			return nil, ws.FS.Mkdir(ctx, o.Path, &o, calls...)
		})
	case "fs.rename":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.RenameOptions) (any, error) {
			return nil, ws.FS.Rename(ctx, o.From, o.To, &o, calls...)
		})
	case "fs.remove":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.RemoveOptions) (any, error) {
			return nil, ws.FS.Remove(ctx, o.Path, &o, calls...)
		})
	case "fs.symlink":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.SymlinkOptions) (any, error) {
			return nil, ws.FS.Symlink(ctx, o.Target, o.Path, &o, calls...)
		})
	case "fs.chmod":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ChmodOptions) (any, error) {
			return ws.FS.Chmod(ctx, o.Path, o.Mode, &o, calls...)
		})
	case "fs.chown":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.ChownOptions) (any, error) {
			return ws.FS.Chown(ctx, o.Path, o.Owner, &o, calls...)
		})
	case "fs.copy":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.CopyOptions) (any, error) {
			return ws.FS.Copy(ctx, o.From, o.To, &o, calls...)
		})
	case "fs.walk":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.WalkOptions) (any, error) {
			return ws.FS.Walk(ctx, o.Path, &o, calls...)
		})
	case "fs.glob":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.GlobOptions) (any, error) {
			return ws.FS.Glob(ctx, o.Pattern, &o, calls...)
		})
	case "fs.grep":
		return typed(r, ctx, op, id, options, calls, func(o dunnage.GrepOptions) (any, error) {
			return ws.FS.Grep(ctx, o.Pattern, &o, calls...)
		})
	case "fs.watch":
		var o dunnage.WatchOptions
		if err := convert(options, &o); err != nil {
			return came{}, fmt.Errorf("%w: %w", errInexpressible, err)
		}
		items, err := ws.FS.Watch(ctx, o.Path, &o, calls...)
		return gather(items, err)
	}
	return bytesStep(ctx, ws, op, options, input, calls)
}

// gather reads items to their end.
func gather[T any](items *dunnage.Items[T], err error) (came, error) {
	if err != nil {
		return came{}, err
	}
	defer items.Close()
	all := []T{}
	for item := range items.C {
		all = append(all, item)
	}
	if err := items.Err(); err != nil {
		return came{}, err
	}
	return plain(map[string]any{"items": all})
}

func typed[O any](
	r *run, ctx context.Context, op, id string, options map[string]any, calls []dunnage.CallOption, f func(O) (any, error),
) (came, error) {
	var o O
	var result any
	var err error
	if convert(options, &o) == nil {
		result, err = f(o)
	} else {
		if strings.HasPrefix(op, "engine.") || strings.HasPrefix(op, "image.") {
			id = ""
		}
		text, _ := json.Marshal(options)
		result, err = r.engine.Call(ctx, op, id, text, calls...)
	}
	if err != nil {
		return came{}, err
	}
	return plain(result)
}

// plain makes a typed result a plain one, as JSON would be read.
func plain(result any) (came, error) {
	text, err := json.Marshal(result)
	if err != nil {
		return came{}, err
	}
	var got came
	return got, json.Unmarshal(text, &got.result)
}

func (r *run) openAnother(ctx context.Context, options map[string]any) (came, error) {
	config, err := (&vars{environment: r.environment}).fill(r.suite.Config)
	if err != nil {
		return came{}, err
	}
	text, _ := json.Marshal(merge(config.(map[string]any), options))
	engine, err := dunnage.OpenJSON(ctx, string(text))
	if err != nil {
		return came{}, err
	}
	return came{}, engine.Close()
}

func merge(under, over map[string]any) map[string]any {
	all := map[string]any{}
	for key, value := range under {
		all[key] = value
	}
	for key, value := range over {
		a, isA := all[key].(map[string]any)
		b, isB := value.(map[string]any)
		if isA && isB {
			all[key] = merge(a, b)
		} else {
			all[key] = value
		}
	}
	return all
}

// bytesStep does an operation of which bytes travel beside the JSON.
func bytesStep(
	ctx context.Context, ws *dunnage.Workspace, op string, options map[string]any, input []byte, calls []dunnage.CallOption,
) (came, error) {
	strict := func(into any) error {
		if err := convert(options, into); err != nil {
			return fmt.Errorf("%w: %w", errInexpressible, err)
		}
		return nil
	}
	switch op {
	case "exec.run":
		var o dunnage.RunOptions
		if err := strict(&o); err != nil {
			return came{}, err
		}
		output, err := ws.Exec.Run(ctx, o.Command, &o, append(calls, dunnage.Input(input))...)
		if err != nil {
			return came{}, err
		}
		got, err := plain(output.ExecResult)
		got.output, got.stderr = output.Stdout, output.Stderr
		return got, err
	case "exec.spawn":
		var o dunnage.ExecOptions
		if err := strict(&o); err != nil {
			return came{}, err
		}
		process, err := ws.Exec.Start(ctx, o.Command, &o, calls...)
		return drain(ctx, process, err, input, true)
	case "exec.attach":
		var o dunnage.AttachOptions
		if err := strict(&o); err != nil {
			return came{}, err
		}
		process, err := ws.Exec.Attach(ctx, o.SessionID, &o, calls...)
		return drain(ctx, process, err, input, false)
	case "fs.read":
		var o dunnage.ReadOptions
		if err := strict(&o); err != nil {
			return came{}, err
		}
		content, err := ws.FS.ReadFile(ctx, o.Path, &o, calls...)
		return came{output: content}, err
	case "fs.write":
		var o dunnage.WriteOptions
		if err := strict(&o); err != nil {
			return came{}, err
		}
		result, err := ws.FS.WriteFile(ctx, o.Path, input, &o, calls...)
		if err != nil {
			return came{}, err
		}
		return plain(result)
	case "fs.open_read":
		var o dunnage.OpenReadOptions
		if err := strict(&o); err != nil {
			return came{}, err
		}
		reader, err := ws.FS.Open(ctx, o.Path, &o, calls...)
		if err != nil {
			return came{}, err
		}
		defer reader.Close()
		content, err := io.ReadAll(reader)
		return came{output: content}, err
	case "fs.open_write":
		var o dunnage.WriteOptions
		if err := strict(&o); err != nil {
			return came{}, err
		}
		writer, err := ws.FS.Create(ctx, o.Path, &o, calls...)
		if err != nil {
			return came{}, err
		}
		defer writer.Close()
		half := len(input) / 2
		for _, piece := range [][]byte{input[:half], input[half:]} {
			if _, err := writer.Write(piece); err != nil {
				return came{}, err
			}
		}
		result, err := writer.Finish()
		if err != nil {
			return came{}, err
		}
		return plain(result)
	}
	return came{}, fmt.Errorf("the driver knows no operation %s", op)
}

// drain writes the input, reads a process to its end and waits for it.
func drain(ctx context.Context, process *dunnage.Process, err error, input []byte, end bool) (came, error) {
	if err != nil {
		return came{}, err
	}
	defer process.Close()
	go func() {
		if len(input) > 0 {
			_, _ = process.Stdin.Write(input)
		}
		if end {
			_ = process.Stdin.Close()
		}
	}()
	var stdout, stderr bytes.Buffer
	if err := process.Copy(&stdout, &stderr); err != nil {
		return came{}, err
	}
	status, err := process.Wait(ctx)
	if err != nil {
		return came{}, err
	}
	got, err := plain(status)
	got.output, got.stderr = stdout.Bytes(), stderr.Bytes()
	return got, err
}
