// kraken-layercake stands for Kraken's layercake on a node: it does to the API at 127.0.0.1:8080 what its parent orders, by the forerunner's
// generated client, as layercake does. The real one has its orders in messages of Kraken; here they come over HTTP, and whoever gives them
// learns what came of them.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/go-openapi/strfmt"

	"github.com/kraken-hpc/imageapi/client"
	"github.com/kraken-hpc/imageapi/client/containers"
	"github.com/kraken-hpc/imageapi/models"
)

// host is where layercake's configuration says that the API is.
const host = "127.0.0.1:8080"

// order is what the parent wants done.
type order struct {
	Method    string
	Name      string            // of the container, for PATCH and DELETE
	State     string            // for PATCH
	Container *models.Container // for POST
}

// answer says what came of the order before.
type answer struct {
	Containers map[string]models.ContainerState // for GET
	Error      string
	Log        string // what the script of the node has kept, after an error
}

func main() {
	parent := flag.String("parent", "", "address of the parent")
	for _, name := range []string{"ip", "id", "log"} {
		flag.String(name, "", "known, and not needed")
	}
	flag.Parse()
	if err := obey(*parent); err != nil {
		fmt.Fprintln(os.Stderr, "layercake:", err)
		os.Exit(1)
	}
}

// obey does what the parent orders until that orders nothing more.
func obey(parent string) error {
	api := client.NewHTTPClientWithConfig(strfmt.Default, client.DefaultTransportConfig().WithHost(host).WithSchemes([]string{"http"}))
	for last := (answer{}); ; {
		o, err := next(parent, last)
		if err != nil || o.Method == "" {
			return err
		}
		last = answer{}
		if last.Containers, err = do(api.Containers, o); err != nil {
			log, _ := os.ReadFile("/uinit.log")
			last.Error, last.Log = err.Error(), string(log)
		}
	}
}

// next tells the parent what came of the last order and waits for the next.
func next(parent string, last answer) (o order, err error) {
	body, err := json.Marshal(last)
	if err != nil {
		return o, err
	}
	resp, err := http.Post("http://"+parent+"/layercake", "application/json", bytes.NewReader(body))
	if err != nil {
		return o, err
	}
	defer resp.Body.Close()
	return o, json.NewDecoder(resp.Body).Decode(&o)
}

func do(api containers.ClientService, o order) (map[string]models.ContainerState, error) {
	const long = 5 * time.Minute // for a machine on which much else runs
	var err error
	switch o.Method {
	case http.MethodGet:
		list, err := api.ListContainers(containers.NewListContainersParams().WithTimeout(long))
		if err != nil {
			return nil, err
		}
		found := map[string]models.ContainerState{}
		for _, c := range list.Payload {
			found[string(c.Name)] = c.State
		}
		return found, nil
	case http.MethodPost:
		_, err = api.CreateContainer(containers.NewCreateContainerParams().WithTimeout(long).WithContainer(o.Container))
	case http.MethodPatch:
		_, err = api.SetContainerState(containers.NewSetContainerStateParams().WithTimeout(long).WithName(&o.Name).WithState(o.State))
	case http.MethodDelete:
		_, err = api.DeleteContainer(containers.NewDeleteContainerParams().WithTimeout(long).WithName(&o.Name))
	default:
		err = errors.New("layercake does no such thing: " + o.Method)
	}
	return nil, err
}
