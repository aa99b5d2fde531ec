package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// vars are what ${…} stands for.
type vars struct {
	saved       map[string]any
	own         map[string]any
	environment map[string]any
	used        map[string]bool
}

func newVars(environment map[string]any, tmp string) *vars {
	own := map[string]any{"ws": fresh(), "ws2": fresh(), "tmp": tmp, "lang": "go"}
	return &vars{saved: map[string]any{}, own: own, environment: environment, used: map[string]bool{}}
}

// fresh is a workspace id that nobody else has.
func fresh() string {
	var bytes [5]byte
	_, _ = rand.Read(bytes[:])
	return "go-" + hex.EncodeToString(bytes[:])
}

func (v *vars) get(path string) (any, error) {
	first, _, _ := strings.Cut(path, ".")
	for _, scope := range []map[string]any{v.saved, v.own, v.environment} {
		if _, ok := scope[first]; ok {
			if value, ok := at(scope, path); ok {
				return value, nil
			}
			break
		}
	}
	return nil, fmt.Errorf("unknown variable ${%s}", path)
}

// fill replaces the variables in every string of a value.
func (v *vars) fill(value any) (any, error) {
	switch value := value.(type) {
	case string:
		return v.fillText(value)
	case []any:
		all := make([]any, len(value))
		for i, one := range value {
			filled, err := v.fill(one)
			if err != nil {
				return nil, err
			}
			all[i] = filled
		}
		return all, nil
	case map[string]any:
		all := map[string]any{}
		for key, one := range value {
			filled, err := v.fill(one)
			if err != nil {
				return nil, err
			}
			all[key] = filled
		}
		return all, nil
	default:
		return value, nil
	}
}

func (v *vars) fillText(text string) (any, error) {
	if strings.HasPrefix(text, "${") && strings.IndexByte(text, '}') == len(text)-1 {
		return v.get(text[2 : len(text)-1])
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		path, rest, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("unclosed variable in %q", text)
		}
		value, err := v.get(path)
		if err != nil {
			return nil, err
		}
		if plain, ok := value.(string); ok {
			out.WriteString(plain)
		} else {
			encoded, _ := json.Marshal(value)
			out.Write(encoded)
		}
		text = rest
	}
}

// text fills a string that must stay one.
func (v *vars) text(text string) (string, error) {
	value, err := v.fillText(text)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(value), nil
}

// at finds a value by its path.
func at(value any, path string) (any, bool) {
	for _, key := range strings.Split(path, ".") {
		switch inner := value.(type) {
		case map[string]any:
			next, ok := inner[key]
			if !ok {
				return nil, false
			}
			value = next
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(inner) {
				return nil, false
			}
			value = inner[i]
		default:
			return nil, false
		}
	}
	return value, true
}
