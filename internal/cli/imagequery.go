package cli

import (
	"fmt"
	"net/url"
	"strings"
)

// query is what stands behind the ? of an --image: names and values, each of which is taken once.
type query struct{ values url.Values }

// imageQuery takes an --image apart at its ?.
func imageQuery(text string) (name string, q query, err error) {
	name, rest, _ := strings.Cut(text, "?")
	values, err := url.ParseQuery(rest)
	if err != nil {
		return "", query{}, fmt.Errorf("%q cannot be read behind its ?: write NAME=VALUE&NAME=VALUE", text)
	}
	return name, query{values}, nil
}

// take gives the values of a name.
func (q query) take(name string) []string {
	values := q.values[name]
	delete(q.values, name)
	return values
}

// one gives the last value of a name, "" when there is none.
func (q query) one(name string) string {
	values := q.take(name)
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// words gives what has not been taken, as options: NAME=VALUE, or NAME where there is no value.
func (q query) words() []string {
	var words []string
	for _, name := range sortedKeys(q.values) {
		for _, value := range q.values[name] {
			if value == "" {
				words = append(words, name)
			} else {
				words = append(words, name+"="+value)
			}
		}
	}
	return words
}
