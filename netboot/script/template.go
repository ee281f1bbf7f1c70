package script

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"text/template"
)

func compile(name, text string) (*template.Template, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(functions()).Parse(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	return t, nil
}

// functions are what templates can do beside what text/template brings; none of them looks beyond its arguments.
func functions() template.FuncMap {
	return template.FuncMap{
		"join":  func(sep string, list []string) string { return strings.Join(list, sep) },
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"base":  path.Base,
		"param": func(b *Boot, name, fallback string) string {
			if v, ok := b.Params[name]; ok {
				return v
			}
			return fallback
		},
		"file":  func(b *Boot, p string) string { return b.Server + FilesPath + escape(strings.TrimPrefix(p, "/")) },
		"image": func(b *Boot, p string) string { return b.Server + ImagesPath + escape(strings.TrimPrefix(p, "/")) },
	}
}

func execute(t *template.Template, b *Boot, limit int) (string, error) {
	w := &bounded{limit: limit}
	if err := t.Execute(w, b); err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	return w.text.String(), nil
}

// bounded is a buffer that gets full.
type bounded struct {
	text  bytes.Buffer
	limit int
}

func (w *bounded) Write(p []byte) (int, error) {
	if w.text.Len()+len(p) > w.limit {
		return 0, fmt.Errorf("the text has more than %d bytes", w.limit)
	}
	return w.text.Write(p)
}
