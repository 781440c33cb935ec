// An identity provider for a test of logins: dex's server with its storage in memory and users that stand here.
//
// dex's own program cannot be built without a C compiler, because it links SQLite. This one has the same server.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/dexidp/dex/connector"
	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"github.com/dexidp/dex/web"
	"github.com/prometheus/client_golang/prometheus"
)

// users are the names, passwords and groups of users.
var users = map[string]struct {
	password string
	groups   []string
}{
	"ann": {"password of ann", []string{"dev", "admin"}},
	"bob": {"password of bob", []string{"dev"}},
}

func main() {
	listen := flag.String("listen", "", "address and port to serve on")
	client := flag.String("client-id", "", "the client")
	secret := flag.String("client-secret", "", "its secret")
	var callbacks []string
	flag.Func("redirect-uri", "a URL of the client that users may return to", func(url string) error {
		callbacks = append(callbacks, url)
		return nil
	})
	flag.Parse()
	log.Fatal(serve(*listen, storage.Client{
		ID:           *client,
		Secret:       *secret,
		RedirectURIs: callbacks,
		Name:         "Sluice",
	}))
}

func serve(listen string, client storage.Client) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	server.ConnectorsConfig["users"] = func() server.ConnectorConfig { return connectorConfig{} }
	store := storage.WithStaticClients(memory.New(logger), []storage.Client{client})
	store = storage.WithStaticConnectors(store, []storage.Connector{{ID: "users", Type: "users", Name: "Users"}})
	dex, err := server.NewServer(context.Background(), server.Config{
		Issuer:             "http://" + listen,
		Storage:            store,
		SkipApprovalScreen: true,
		Web:                server.WebConfig{WebFS: web.FS()},
		Logger:             logger,
		PrometheusRegistry: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	return http.Serve(listener, dex)
}

// connectorConfig makes the connector that asks for a password.
type connectorConfig struct{}

func (connectorConfig) Open(string, *slog.Logger) (connector.Connector, error) {
	return passwords{}, nil
}

// passwords lets users in by dex's form.
type passwords struct{}

func (passwords) Prompt() string { return "Name" }

func (passwords) Login(_ context.Context, _ connector.Scopes, name, password string) (connector.Identity, bool, error) {
	user, known := users[name]
	if !known || user.password != password {
		return connector.Identity{}, false, nil
	}
	return connector.Identity{
		UserID:        name,
		Username:      name,
		Email:         name + "@example.test",
		EmailVerified: true,
		Groups:        user.groups,
	}, true, nil
}
