package dunnage

import "sync"

// ref counts the uses of a C handle: it is freed when it is closed and the last use has ended.
type ref struct {
	mu     sync.Mutex
	uses   int
	closed bool
	free   func()
}

// acquire begins a use; false when the handle is closed.
func (r *ref) acquire() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.uses++
	return true
}

// release ends a use.
func (r *ref) release() {
	r.mu.Lock()
	r.uses--
	last := r.closed && r.uses == 0
	r.mu.Unlock()
	if last {
		r.free()
	}
}

// shut lets no use begin any more, runs wind (which makes uses under way end) and frees the handle with the last of
// them. It returns false when it was shut before.
func (r *ref) shut(wind func()) bool {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return false
	}
	r.closed = true
	// This is a use too, so that the handle lives while it winds down.
	r.uses++
	r.mu.Unlock()
	wind()
	r.release()
	return true
}
