package ui

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
)

// netlog is as much of Chromium's log of its network as is looked at.
type netlog struct {
	Constants struct {
		Types map[string]int `json:"logEventTypes"`
	} `json:"constants"`
	Events []struct {
		Type   int `json:"type"`
		Params struct {
			URL       string `json:"url"`
			Initiator string `json:"initiator"`
			Isolation string `json:"network_isolation_key"`
		} `json:"params"`
	} `json:"events"`
}

// ownKeys are the isolation keys of what the browser asks for itself, such as whether there is a newer one. No page can have them.
var ownKeys = []string{"null null", "https://google.com https://google.com"}

// requested lists what a page asked for, its own address included. What the browser asks for itself has no page as initiator.
func requested(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var log netlog
	if err := json.Unmarshal(data, &log); err != nil {
		return nil, err
	}
	start, ok := log.Constants.Types["URL_REQUEST_START_JOB"]
	if !ok {
		return nil, errors.New("it has no URL_REQUEST_START_JOB")
	}
	var urls []string
	for _, e := range log.Events {
		p := e.Params
		if e.Type != start || p.URL == "" || !strings.Contains(p.URL, "://") {
			continue
		}
		if p.Initiator == "not an origin" && slices.Contains(ownKeys, p.Isolation) {
			continue
		}
		urls = append(urls, p.URL)
	}
	return urls, nil
}
