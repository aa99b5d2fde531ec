package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"dunnage"
)

const (
	fillData = "cd /data && mkdir -p d/empty && echo one > one && echo two > 'd/t w o' && ln -s one link && " +
		"head -c 5000000 /dev/urandom > much"
	lookAtData = "cd /data && find . | sort && find . -type f -exec md5sum {} + | sort"
	changeData = "rm -rf /data/d && echo later > /data/later"
)

var errShelf = errors.New("the shelf is full")

func said(ws *dunnage.Workspace, command string) (string, error) {
	output, err := ws.Exec.Run(background, command, nil)
	if err != nil {
		return "", err
	}
	if output.ExitCode != 0 {
		return "", fmt.Errorf("%s: %s", command, output.Stderr)
	}
	return string(output.Stdout), nil
}

// unchanged tells whether the workspace runs, and its data is as it was.
func unchanged(ws *dunnage.Workspace, before string) error {
	now, err := said(ws, lookAtData)
	if err == nil && now != before {
		err = fmt.Errorf("the data was\n%sand is\n%s", before, now)
	}
	return err
}

// filled makes a workspace with data; it tells how that looks.
func (r *run) filled() (*dunnage.Workspace, string, func(), error) {
	ws, remove, err := r.workspace()
	if err != nil {
		return nil, "", remove, err
	}
	if _, err := said(ws, fillData); err != nil {
		return nil, "", remove, err
	}
	before, err := said(ws, lookAtData)
	return ws, before, remove, err
}

// after calls act once so many bytes have gone through; its error is the stream's.
type after struct {
	inner io.ReadWriter
	left  int
	act   func() error
}

func (a *after) pass(count int, err error) (int, error) {
	if a.left -= count; a.left < 0 && err == nil {
		err = a.act()
	}
	return count, err
}

func (a *after) Read(room []byte) (int, error) { return a.pass(a.inner.Read(room)) }

func (a *after) Write(data []byte) (int, error) { return a.pass(a.inner.Write(data)) }

// middles ends a stream in its middle in every way; nothing may change.
func middles(ws *dunnage.Workspace, before string, do func(ctx context.Context, stream io.ReadWriter) error, archive []byte) error {
	middle := func(ctx context.Context, act func() error) error {
		return do(ctx, &after{inner: bytes.NewBuffer(bytes.Clone(archive)), left: 1_000_000, act: act})
	}
	err := middle(background, func() error { return errShelf })
	if !errors.Is(err, errShelf) || dunnage.KindOf(err) != dunnage.CodeUnexpected {
		return fmt.Errorf("after its error: %v", err)
	}
	if err := unchanged(ws, before); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(background)
	err = middle(ctx, func() error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || !errors.Is(err, dunnage.ErrCancelled) {
		return fmt.Errorf("after the context's end: %v", err)
	}
	if err := unchanged(ws, before); err != nil {
		return err
	}
	panicked := func() (panicked any) {
		defer func() { panicked = recover() }()
		return middle(background, func() error { panic("a fault of the host") })
	}()
	if panicked != "a fault of the host" {
		return fmt.Errorf("after a panic: %v", panicked)
	}
	return unchanged(ws, before)
}

func dataExportStream(r *run) error {
	ws, before, remove, err := r.filled()
	defer remove()
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	now := &dunnage.DataExportOptions{GraceMs: dunnage.Ptr(uint64(0))}
	var last dunnage.EventType
	result, err := ws.Data.ExportTo(background, &archive, now, dunnage.OnEvent(func(e dunnage.Event) { last = e.Type }))
	if err != nil {
		return err
	}
	if result.ArchiveBytes != uint64(archive.Len()) || archive.Len() < 5_000_000 || last != dunnage.EventTypeComplete {
		return fmt.Errorf("%+v, got %d bytes, the last event was %s", result, archive.Len(), last)
	}
	if err := unchanged(ws, before); err != nil {
		return err
	}
	export := func(ctx context.Context, stream io.ReadWriter) error {
		_, err := ws.Data.ExportTo(ctx, stream, now)
		return err
	}
	if err := middles(ws, before, export, nil); err != nil {
		return err
	}
	_, nothing := ws.Data.ExportTo(background, nil, now)
	_, elsewhere := ws.Data.ExportTo(background, &archive, &dunnage.DataExportOptions{Destination: "/tmp/x"})
	return errors.Join(want(nothing, dunnage.CodeInvalidArgument, "no writer"),
		want(elsewhere, dunnage.CodeInvalidArgument, "a destination"))
}

func dataImportStream(r *run) error {
	ws, before, remove, err := r.filled()
	defer remove()
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if _, err := ws.Data.ExportTo(background, &archive, &dunnage.DataExportOptions{GraceMs: dunnage.Ptr(uint64(0))}); err != nil {
		return err
	}
	if _, err := said(ws, changeData); err != nil {
		return err
	}
	now := &dunnage.DataImportOptions{GraceMs: dunnage.Ptr(uint64(0))}
	result, err := ws.Data.ImportFrom(background, bytes.NewReader(archive.Bytes()), now)
	if err != nil || result.ArchiveBytes != uint64(archive.Len()) {
		return fmt.Errorf("%+v, %w", result, err)
	}
	if err := unchanged(ws, before); err != nil {
		return err
	}
	if _, err := said(ws, changeData); err != nil {
		return err
	}
	changed, err := said(ws, lookAtData)
	if err != nil {
		return err
	}
	return middles(ws, changed, func(ctx context.Context, stream io.ReadWriter) error {
		_, err := ws.Data.ImportFrom(ctx, stream, now)
		return err
	}, archive.Bytes())
}
