// A tour through a workspace's life from Go: create with a progress bar, files, a command, stop, start, delete.
//
// Reads one JSON object from $DUNNAGE_TOUR: {"config": {…}, "image": "…", "workspace": "…"}, where config is what
// dunnage.OpenJSON takes. Its last line is a JSON object with the milliseconds of each step.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"dunnage"
)

type step struct {
	Name string  `json:"name"`
	Ms   float64 `json:"ms"`
}

var (
	steps []step
	since = time.Now()
)

func done(name, what string) {
	ms := float64(time.Since(since).Microseconds()/100) / 10
	fmt.Printf("  %-7s %8.1f ms  %s\n", name, ms, what)
	steps = append(steps, step{name, ms})
	since = time.Now()
}

// Shows an event: the pull as a bar that moves in place on a terminal, or once, when it is complete.
func show(terminal bool) func(dunnage.Event) {
	return func(event dunnage.Event) {
		if event.Type == dunnage.EventTypeCreating && terminal {
			fmt.Println()
		}
		if event.Type != dunnage.EventTypePullProgress || event.Bytes == nil || event.TotalBytes == nil {
			return
		}
		bytes, total, finished := *event.Bytes, max(*event.TotalBytes, 1), 0
		for _, layer := range event.Layers {
			if layer.Offset == layer.Total {
				finished++
			}
		}
		filled := int(min(bytes*30/total, 30))
		line := fmt.Sprintf("  [%s%s] %d/%d layers  %.1f/%.1f MB  %.0f MB/s",
			strings.Repeat("#", filled), strings.Repeat(".", 30-filled), finished, len(event.Layers),
			float64(bytes)/1e6, float64(total)/1e6, float64(bytes)/1e3/float64(max(event.ElapsedMs, 1)))
		if terminal {
			fmt.Printf("\r%s\x1b[K", line)
		} else if event.UnpackedBytes != nil && *event.UnpackedBytes == total {
			fmt.Println(line)
		}
	}
}

func tour(ctx context.Context) error {
	var given struct {
		Config    json.RawMessage `json:"config"`
		Image     string          `json:"image"`
		Workspace string          `json:"workspace"`
	}
	if err := json.Unmarshal([]byte(os.Getenv("DUNNAGE_TOUR")), &given); err != nil {
		return fmt.Errorf("DUNNAGE_TOUR: %w", err)
	}
	engine, err := dunnage.OpenJSON(ctx, string(given.Config))
	if err != nil {
		return err
	}
	defer engine.Close()
	workspace := engine.Workspace(given.Workspace)

	out, err := os.Stdout.Stat()
	terminal := err == nil && out.Mode()&os.ModeCharDevice != 0
	created, err := workspace.Create(ctx, &dunnage.CreateOptions{Image: given.Image}, dunnage.OnEvent(show(terminal)))
	if err != nil {
		return err
	}
	done("create", created.ContainerID+" from "+created.Image)

	poem := "Packed with care,\nthe cargo stays whole.\n"
	if _, err := workspace.FS.WriteFile(ctx, "poem.txt", []byte(poem), nil); err != nil {
		return err
	}
	done("write", "/data/poem.txt")
	text, err := workspace.FS.ReadText(ctx, "/data/poem.txt", nil)
	if err != nil {
		return err
	}
	done("read", fmt.Sprint(text.TotalLines, " lines"))

	output, err := workspace.Exec.Run(ctx, "wc -c < poem.txt; uname -m", nil)
	if err != nil {
		return err
	}
	said := strings.Join(strings.Fields(string(output.Stdout)), " ")
	done("run", fmt.Sprintf("%s (exit code %d)", said, output.ExitCode))

	info, err := workspace.Info(ctx, nil)
	if err != nil {
		return err
	}
	done("info", fmt.Sprintf("%s, pid %d, %s", info.Status, info.PID, strings.Join(info.Network.Addresses, " ")))

	stopped, err := workspace.Stop(ctx, nil)
	if err != nil {
		return err
	}
	done("stop", string(stopped.Outcome))
	started, err := workspace.Start(ctx, nil)
	if err != nil {
		return err
	}
	done("start", string(started.Outcome))
	again, err := workspace.FS.ReadFile(ctx, "poem.txt", nil)
	if err != nil {
		return err
	}
	if string(again) != poem {
		return fmt.Errorf("the file changed while the workspace was stopped")
	}
	if _, err := workspace.Delete(ctx, nil); err != nil {
		return err
	}
	done("delete", "")

	last, err := json.Marshal(map[string]any{"language": "go", "steps": steps})
	if err != nil {
		return err
	}
	fmt.Println(string(last))
	return nil
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := tour(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}
