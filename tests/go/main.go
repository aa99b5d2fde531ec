// The behaviour driver of Go: runs the cases of tests/behavior through the public face of bindings-go.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"dunnage"
)

type step struct {
	Op              string         `json:"op"`
	On              *string        `json:"on"`
	Options         map[string]any `json:"options"`
	Input           string         `json:"input"`
	Repeat          int            `json:"repeat"`
	Save            string         `json:"save"`
	Expect          any            `json:"expect"`
	ExpectOutput    *string        `json:"expect_output"`
	ExpectOutputLen *int           `json:"expect_output_len"`
	ExpectStderr    *string        `json:"expect_stderr"`
	ExpectError     string         `json:"expect_error"`
	ErrorContains   string         `json:"error_contains"`
	ExpectEvents    []string       `json:"expect_events"`
	CancelOn        string         `json:"cancel_on"`
	TimeLimitMs     int            `json:"time_limit_ms"`
}

type testCase struct {
	ID     string            `json:"id"`
	Needs  []string          `json:"needs"`
	Native bool              `json:"native"`
	Except map[string]string `json:"except"`
	Steps  []step            `json:"step"`
}

type suite struct {
	Config map[string]any `json:"config"`
	Cases  []testCase     `json:"case"`
}

// run is what every case works with.
type run struct {
	suite       suite
	environment map[string]any
	engine      *dunnage.Engine
}

func main() {
	r, err := begin()
	if err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(2)
	}
	passed, failed, skipped := 0, 0, 0
	only := os.Getenv("DUNNAGE_TEST_ONLY")
	for _, c := range r.suite.Cases {
		if !strings.Contains(c.ID, only) {
			continue
		}
		why := r.missing(c)
		if why == "" && c.Except["go"] != "" {
			why = c.Except["go"]
		}
		if why != "" {
			fmt.Println("skip", c.ID, why)
			skipped++
			continue
		}
		if err := r.one(c); err != nil {
			fmt.Println("FAIL", c.ID, err)
			failed++
			continue
		}
		fmt.Println("ok", c.ID)
		passed++
	}
	if err := r.engine.Close(); err != nil {
		fmt.Println("FAIL closing the engine:", err)
		failed++
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if failed > 0 {
		os.Exit(1)
	}
}

func begin() (*run, error) {
	r := &run{}
	path := os.Getenv("DUNNAGE_TEST_CASES")
	if path == "" {
		return nil, fmt.Errorf("set DUNNAGE_TEST_CASES to the cases as JSON: tests/go/run does it")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &r.suite); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := json.Unmarshal([]byte(os.Getenv("DUNNAGE_TEST_ENV")), &r.environment); err != nil {
		return nil, fmt.Errorf("DUNNAGE_TEST_ENV: %w", err)
	}
	if r.environment["runtime_dir"] == nil {
		r.environment["runtime_dir"] = os.Getenv("DUNNAGE_RUNTIME_DIR")
	}
	config, err := (&vars{environment: r.environment}).fill(r.suite.Config)
	if err != nil {
		return nil, err
	}
	var typed dunnage.Config
	if err := convert(config, &typed); err != nil {
		return nil, err
	}
	r.engine, err = dunnage.Open(context.Background(), &typed)
	return r, err
}

func (r *run) missing(c testCase) string {
	for _, need := range c.Needs {
		if value, ok := at(r.environment, need); !ok || value == nil {
			return "the environment has no " + need
		}
	}
	if c.Native && r.environment["images"] == nil {
		return "the environment has no images"
	}
	return ""
}

// one runs a case, and deletes what it made.
func (r *run) one(c testCase) error {
	if c.Native {
		native, ok := natives[c.ID]
		if !ok {
			return fmt.Errorf("nothing implements it")
		}
		return native(r)
	}
	tmp, err := os.MkdirTemp("", "dunnage-go-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	v := newVars(r.environment, tmp)
	defer r.remove(v.used)
	for i, s := range c.Steps {
		if err := r.step(v, s); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, s.Op, err)
		}
	}
	return nil
}

// remove deletes workspaces and ignores what that comes to.
func (r *run) remove(ids map[string]bool) {
	for id := range ids {
		options := &dunnage.DeleteOptions{GraceMs: dunnage.Ptr(uint64(0))}
		_, _ = r.engine.Workspace(id).Delete(context.Background(), options)
	}
}

// convert makes a typed value of a plain one; it fails on fields the type does not have.
func convert(value, into any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
