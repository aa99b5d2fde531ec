package dunnage

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAMalformedConfigurationIsNamed(t *testing.T) {
	_, err := OpenJSON(context.Background(), `{"data_rot":"/x"}`)
	if !errors.Is(err, ErrInvalidArgument) || errors.Is(err, ErrNotFound) {
		t.Fatalf("it is %v", err)
	}
	var failed *Error
	if !errors.As(err, &failed) || failed.Operation != "engine.open" || !strings.Contains(failed.Message, "data_rot") {
		t.Fatalf("it is %#v", failed)
	}
	if failed.Number != 1 || KindOf(err) != CodeInvalidArgument {
		t.Fatalf("number %d", failed.Number)
	}
}

func TestNoDaemonIsUnavailable(t *testing.T) {
	address := filepath.Join(t.TempDir(), "none.sock")
	_, err := Open(context.Background(), &Config{
		DataRoot:   t.TempDir(),
		Backend:    BackendKindContainerd,
		Containerd: ContainerdConfig{Address: address},
	})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), address) {
		t.Fatalf("it is %v", err)
	}
}

func TestAnEndedContextIsTheCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	reason := errors.New("the user left")
	cancel(reason)
	_, err := Open(ctx, &Config{})
	if !errors.Is(err, ErrCancelled) || !errors.Is(err, reason) {
		t.Fatalf("it is %v", err)
	}
}

func TestMissingFileIsNotFound(t *testing.T) {
	_, err := OpenFile(context.Background(), "/no/such/dunnage.toml")
	if !errors.Is(err, ErrNotFound) {
		t.Fatalf("it is %v", err)
	}
	if _, err := OpenFile(context.Background(), "a\x00b"); !errors.Is(err, ErrInvalidArgument) {
		t.Fatalf("a NUL: %v", err)
	}
}

func TestManyOpensAtOnce(t *testing.T) {
	var group sync.WaitGroup
	for range 50 {
		group.Add(1)
		go func() {
			defer group.Done()
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			if _, err := OpenJSON(ctx, `{"x":1}`); err == nil {
				t.Error("it opened")
			}
		}()
	}
	group.Wait()
}

func TestAbsentOptionsAreNotSent(t *testing.T) {
	for _, one := range []struct {
		value any
		want  string
	}{
		{CreateOptions{}, `{}`},
		{CreateOptions{Start: Ptr(false), Ports: []PortMapping{}}, `{"ports":[],"start":false}`},
		{RunOptions{Command: "true", TimeoutMs: Ptr(uint64(0))}, `{"command":"true","timeout_ms":0}`},
		{Config{}, `{}`},
		{StopOptions{GraceMs: Ptr(uint64(0))}, `{"grace_ms":0}`},
	} {
		text, err := json.Marshal(one.value)
		if err != nil || string(text) != one.want {
			t.Errorf("%T is %s, not %s (%v)", one.value, text, one.want, err)
		}
	}
}

func TestAHandleIsFreedOnceAfterItsLastUse(t *testing.T) {
	for range 200 {
		var freed, using atomic.Int32
		var r ref
		r.free = func() {
			if using.Load() != 0 {
				t.Error("freed in use")
			}
			freed.Add(1)
		}
		var group sync.WaitGroup
		for i := range 8 {
			group.Add(1)
			go func() {
				defer group.Done()
				if i == 7 {
					r.shut(func() {})
					r.shut(func() { t.Error("wound down twice") })
					return
				}
				if r.acquire() {
					using.Add(1)
					using.Add(-1)
					r.release()
				}
			}()
		}
		group.Wait()
		if freed.Load() != 1 || r.acquire() {
			t.Fatalf("freed %d times", freed.Load())
		}
	}
}

func TestVersion(t *testing.T) {
	if Version() == "" {
		t.Fatal("it has none")
	}
}

// step is a reader that gives what it is told to.
type step func(room []byte) (int, error)

func (s step) Read(room []byte) (int, error) { return s(room) }

func TestAPipeTellsItsReadersEndOnce(t *testing.T) {
	room := make([]byte, 4)
	failure := errors.New("no more")
	both := &archivePipe{reader: step(func(room []byte) (int, error) { return copy(room, "ab"), failure })}
	if both.read(room) != 2 || both.read(room) != -1 || both.err != failure {
		t.Fatalf("it is %+v", both)
	}
	end := &archivePipe{reader: strings.NewReader("abcde")}
	if end.read(room) != 4 || end.read(room) != 1 || end.read(room) != 0 || end.err != nil {
		t.Fatalf("it is %+v", end)
	}
	idle := &archivePipe{reader: step(func([]byte) (int, error) { return 0, nil })}
	if idle.read(room) != -1 || idle.err != io.ErrNoProgress {
		t.Fatalf("it is %+v", idle)
	}
	wrong := &archivePipe{reader: step(func([]byte) (int, error) { return 5, nil })}
	if wrong.read(room) != -1 || wrong.err == nil {
		t.Fatalf("it is %+v", wrong)
	}
	faulty := &archivePipe{reader: step(func([]byte) (int, error) { panic("a fault") })}
	if faulty.read(room) != -1 || !faulty.panicked || faulty.panic != "a fault" {
		t.Fatalf("it is %+v", faulty)
	}
}
