"""gateway: HTTP, SSE and a page. It owns no state; any number of gateways may run."""
