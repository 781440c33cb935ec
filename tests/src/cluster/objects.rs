//! Objects of a cluster as YAML, one document each, in namespace `default`.

/// A Deployment of so many pods named `web` that tell who they are, ready when they listen on 8080.
pub fn web_deployment(replicas: u8) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: default}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
        - name: web
          image: origin
          args: [--name, web, --listen, '[::]:8080']
          readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
"
    )
}

/// An Ingress of a class that sends every path of a host to port 80 of a Service.
pub fn ingress(name: &str, class: &str, host: &str, service: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default}}
spec:
  ingressClassName: {class}
  rules:
    - host: {host}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {{service: {{name: {service}, port: {{number: 80}}}}}}
"
    )
}
