// Reads a configuration with Prometheus' own code, finds its targets as Prometheus does, and prints them as a line of JSON
// whenever they change. It exists because Debian builds its Prometheus without Kubernetes.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"os"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/kubernetes"
	_ "github.com/prometheus/prometheus/discovery/moby"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"
)

func main() {
	logger := promslog.NewNopLogger()
	file, err := config.LoadFile(os.Args[1], false, logger)
	if err != nil {
		log.Fatal(err)
	}
	registry := client.NewRegistry()
	metrics, err := discovery.CreateAndRegisterSDMetrics(registry)
	if err != nil {
		log.Fatal(err)
	}
	manager := discovery.NewManager(context.Background(), logger, registry, metrics)
	jobs := map[string]*config.ScrapeConfig{}
	wanted := map[string]discovery.Configs{}
	for _, job := range file.ScrapeConfigs {
		jobs[job.JobName] = job
		wanted[job.JobName] = job.ServiceDiscoveryConfigs
	}
	go manager.Run()
	if err := manager.ApplyConfig(wanted); err != nil {
		log.Fatal(err)
	}
	var before []byte
	for groups := range manager.SyncCh() {
		targets := []map[string]string{}
		for name, found := range groups {
			for _, group := range found {
				builder := labels.NewBuilder(labels.EmptyLabels())
				alive, failures := scrape.TargetsFromGroup(group, jobs[name], nil, builder)
				for _, failure := range failures {
					log.Fatal(failure)
				}
				for _, target := range alive {
					if target.Labels(builder).IsEmpty() {
						continue
					}
					told := target.Labels(builder).Map()
					told["url"] = target.URL().String()
					targets = append(targets, told)
				}
			}
		}
		line, err := json.Marshal(targets)
		if err != nil {
			log.Fatal(err)
		}
		if !bytes.Equal(line, before) {
			os.Stdout.Write(append(line, '\n'))
			before = line
		}
	}
}
