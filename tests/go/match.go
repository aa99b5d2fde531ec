package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// match compares a value with a pattern; the failure names the place.
func match(expected, actual any, place string) error {
	differ := func() error {
		want, _ := json.Marshal(expected)
		got, _ := json.Marshal(actual)
		return fmt.Errorf("%s: expected %s, got %s", place, want, got)
	}
	switch expected := expected.(type) {
	case map[string]any:
		fields, ok := actual.(map[string]any)
		if !ok {
			return differ()
		}
		for key, field := range expected {
			if err := match(field, fields[key], place+"."+key); err != nil {
				return err
			}
		}
		return nil
	case []any:
		items, ok := actual.([]any)
		if !ok {
			return differ()
		}
		if len(expected) > 0 && expected[0] == "..." {
			for _, want := range expected[1:] {
				found := false
				for _, item := range items {
					found = found || match(want, item, place) == nil
				}
				if !found {
					return differ()
				}
			}
			return nil
		}
		if len(items) != len(expected) {
			return differ()
		}
		for i := range expected {
			if err := match(expected[i], items[i], fmt.Sprintf("%s[%d]", place, i)); err != nil {
				return err
			}
		}
		return nil
	case string:
		if !fits(expected, actual) {
			return differ()
		}
		return nil
	default:
		if expected != actual {
			return differ()
		}
		return nil
	}
}

func fits(pattern string, actual any) bool {
	number, isNumber := actual.(float64)
	switch {
	case pattern == "*":
		return actual != nil
	case pattern == "!":
		return actual == nil
	case strings.HasPrefix(pattern, ">="), strings.HasPrefix(pattern, "<="):
		if bound, err := strconv.ParseFloat(pattern[2:], 64); err == nil {
			return isNumber && (pattern[0] == '>' && number >= bound || pattern[0] == '<' && number <= bound)
		}
	}
	text, ok := actual.(string)
	return ok && textFits(pattern, text)
}

func textFits(pattern, text string) bool {
	if part, ok := strings.CutPrefix(pattern, "~"); ok {
		return strings.Contains(text, part)
	}
	if whole, ok := strings.CutPrefix(pattern, "="); ok {
		return text == whole
	}
	return text == pattern
}

func matchBytes(pattern string, bytes []byte, what string) error {
	if pattern == "*" && len(bytes) > 0 || pattern != "*" && textFits(pattern, string(bytes)) {
		return nil
	}
	return fmt.Errorf("%s: expected %q, got %.200q", what, pattern, bytes)
}

// checkEvents checks what holds for the events of every call.
func checkEvents(events []map[string]any, code string) error {
	if len(events) == 0 {
		return nil
	}
	marks := map[string]float64{}
	layers := map[string]bool{}
	rises := func(key string, value any) error {
		number, ok := value.(float64)
		if !ok {
			return nil
		}
		if number < marks[key] {
			return fmt.Errorf("events: %s fell from %v to %v", key, marks[key], number)
		}
		marks[key] = number
		return nil
	}
	for i, event := range events {
		kind, _ := event["type"].(string)
		terminal := kind == "complete" || kind == "error"
		if terminal != (i == len(events)-1) {
			return fmt.Errorf("events: %s is number %d of %d", kind, i+1, len(events))
		}
		if event["operation_id"] != events[0]["operation_id"] {
			return fmt.Errorf("events: two operation ids")
		}
		for _, key := range []string{"elapsed_ms", "bytes", "unpacked_bytes"} {
			if err := rises(key, event[key]); err != nil {
				return err
			}
		}
		shown, ok := event["layers"].([]any)
		if !ok {
			continue
		}
		here := map[string]bool{}
		for _, one := range shown {
			layer, _ := one.(map[string]any)
			name, _ := layer["ref"].(string)
			here[name] = true
			if err := rises("layer "+name, layer["offset"]); err != nil {
				return err
			}
			if offset, total := layer["offset"].(float64), layer["total"].(float64); offset > total {
				return fmt.Errorf("events: layer %s at %v of %v", name, offset, total)
			}
		}
		for name := range layers {
			if !here[name] {
				return fmt.Errorf("events: layer %s disappeared", name)
			}
		}
		layers = here
	}
	last := events[len(events)-1]
	switch {
	case code == "" && last["type"] != "complete":
		return fmt.Errorf("events: the call succeeded, the last event is %v", last["type"])
	case code != "" && last["type"] != "error":
		return fmt.Errorf("events: the call failed with %s, the last event is %v", code, last["type"])
	case code != "" && last["code"] != code && !(code == "TIMEOUT" && last["code"] == "CANCELLED"):
		return fmt.Errorf("events: the call failed with %s, the last event says %v", code, last["code"])
	}
	return nil
}

// expectEvents compares types in order, runs taken as one; those that end in ? may be missing.
func expectEvents(expected []string, events []map[string]any) error {
	var came []string
	for _, event := range events {
		kind, _ := event["type"].(string)
		if len(came) == 0 || came[len(came)-1] != kind {
			came = append(came, kind)
		}
	}
	rest := came
	for _, want := range expected {
		name, optional := strings.CutSuffix(want, "?")
		if len(rest) > 0 && rest[0] == name {
			rest = rest[1:]
		} else if !optional {
			return fmt.Errorf("events: expected %v, got %v", expected, came)
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("events: expected %v, got %v", expected, came)
	}
	return nil
}
