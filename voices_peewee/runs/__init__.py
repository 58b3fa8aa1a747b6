"""Recording a run: tracking, outputs, metrics, cost."""
