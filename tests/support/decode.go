// Reads a page of metrics with Prometheus' library for Go and prints it as a classic text page, with a comment for each
// native histogram.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

func main() {
	format := expfmt.ResponseFormat(http.Header{"Content-Type": {os.Args[1]}})
	if format == expfmt.FmtUnknown {
		fail(fmt.Errorf("no format of this library: %s", os.Args[1]))
	}
	decoder, out := expfmt.NewDecoder(os.Stdin, format), bufio.NewWriter(os.Stdout)
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); err == io.EOF {
			break
		} else if err != nil {
			fail(err)
		}
		if _, err := expfmt.MetricFamilyToText(out, &family); err != nil {
			fail(err)
		}
		for _, metric := range family.Metric {
			if h := metric.GetHistogram(); h.GetSchema() != 0 {
				count := int64(h.GetZeroCount())
				bucket := int64(0)
				for _, delta := range h.PositiveDelta {
					bucket += delta
					count += bucket
				}
				fmt.Fprintf(out, "# NATIVE %s %d %d %d\n", family.GetName(), h.GetSchema(), count, h.GetSampleCount())
			}
		}
	}
	if err := out.Flush(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
