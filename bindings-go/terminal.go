package dunnage

import (
	"io"
	"sync"
)

// Terminal is the process as one stream both ways: reading gives its standard output (all output, on a terminal), writing
// goes to its standard input. What comes on standard error is dropped. Read and write may be called at the same time.
// Closing it closes the process. It takes the output for itself: use it in place of Next, Copy and Output.
func (p *Process) Terminal() io.ReadWriteCloser { return &terminal{process: p} }

type terminal struct {
	process *Process
	mu      sync.Mutex
	rest    []byte
}

func (t *terminal) Read(into []byte) (int, error) {
	if len(into) == 0 {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.rest) == 0 {
		stream, piece, err := t.process.Next()
		if err != nil {
			return 0, err
		}
		if stream == Stdout {
			t.rest = piece
		}
	}
	count := copy(into, t.rest)
	t.rest = t.rest[count:]
	return count, nil
}

func (t *terminal) Write(data []byte) (int, error) { return t.process.Stdin.Write(data) }

func (t *terminal) Close() error { return t.process.Close() }
