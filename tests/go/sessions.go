package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"syscall"

	"dunnage"
)

func until(process *dunnage.Process, part string) error {
	seen := ""
	for !strings.Contains(seen, part) {
		_, bytes, err := process.Next()
		if err != nil {
			return fmt.Errorf("before %q, after %q: %w", part, seen, err)
		}
		seen += string(bytes)
	}
	return nil
}

func sessionGoesOn(r *run) error {
	ws, done, err := r.workspace()
	defer done()
	if err != nil {
		return err
	}
	options := &dunnage.ExecOptions{Detach: true, SessionID: "s"}
	first, err := ws.Exec.Start(background, "echo up; cat", options)
	if err != nil {
		return err
	}
	if first.SessionID() != "s" {
		return fmt.Errorf("its id is %q", first.SessionID())
	}
	if err := until(first, "up\n"); err != nil {
		return err
	}
	if err := first.Close(); err != nil {
		return err
	}
	_, err = ws.Exec.Wait(background, "s", &dunnage.SessionWaitOptions{TimeoutMs: dunnage.Ptr[uint64](50)})
	if err := want(err, dunnage.CodeTimeout, "a wait with a limit"); err != nil {
		return err
	}
	_, err = ws.Exec.Start(background, "true", options)
	if err := want(err, dunnage.CodeAlreadyExists, "a second of this id"); err != nil {
		return err
	}
	one, err := ws.Exec.Attach(background, "s", nil)
	if err != nil {
		return err
	}
	defer one.Close()
	other, err := ws.Exec.Attach(background, "s", nil)
	if err != nil {
		return err
	}
	defer other.Close()
	if _, err := io.WriteString(one.Stdin, "more\n"); err != nil {
		return err
	}
	for _, process := range []*dunnage.Process{one, other} {
		if err := until(process, "up\nmore\n"); err != nil {
			return err
		}
	}
	if err := other.Detach(); err != nil {
		return err
	}
	if err := want(one.SignalName("NOTHING"), dunnage.CodeInvalidArgument, "an unknown signal"); err != nil {
		return err
	}
	if err := one.SignalName("USR1"); err != nil {
		return err
	}
	exit, err := one.Wait(background)
	if err != nil {
		return err
	}
	again, err := ws.Exec.Wait(background, "s", nil)
	if err != nil {
		return err
	}
	for _, status := range []*dunnage.ExitStatus{exit, again} {
		if status.Signal == nil || *status.Signal != int32(syscall.SIGUSR1) || status.SessionID != "s" {
			return fmt.Errorf("it ended with %+v", *status)
		}
	}
	return nil
}

func terminalIsAStream(r *run) error {
	ws, done, err := r.workspace()
	defer done()
	if err != nil {
		return err
	}
	process, err := ws.Exec.Start(background, "", &dunnage.ExecOptions{PTY: true})
	if err != nil {
		return err
	}
	terminal := process.Terminal()
	defer terminal.Close()
	if _, err := io.WriteString(terminal, "echo $((6*7))-$TERM; exit\n"); err != nil {
		return err
	}
	all, err := io.ReadAll(bufio.NewReader(terminal))
	if err == nil && !strings.Contains(string(all), "42-xterm-256color") {
		err = fmt.Errorf("it showed %q", all)
	}
	return err
}
