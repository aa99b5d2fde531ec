// Package dunnage keeps long-lived container workspaces, embedded in your program.
//
// An [Engine] keeps, for each workspace id, one container with an agent inside:
//
//	engine, err := dunnage.Open(ctx, &dunnage.Config{DataRoot: "/srv/workspaces"})
//	defer engine.Close()
//	ws := engine.Workspace("bot-7")
//	_, err = ws.Create(ctx, nil, dunnage.OnEvent(func(e dunnage.Event) { fmt.Println(e.Type) }))
//	out, err := ws.Exec.Run(ctx, "uname -a", nil)
//
// Every call takes a context. When it is done, the call ends: a multi-step write is undone first, or, past its point of
// no return, completes. The error then matches both [ErrCancelled] and the context's own.
//
// Errors are *[Error]; errors.Is tells their kind: errors.Is(err, dunnage.ErrNotFound).
//
// All methods may be called from any number of goroutines. Calls with JSON options hold no thread while they wait.
//
// The package is cgo over the C library, found by pkg-config under the name dunnage.
package dunnage
