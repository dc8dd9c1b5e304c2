// The lineage as rows, pure: what is shown of the graph, depth first.

// Returns { rows, left }: rows of { id, level, children, open, status }, and how many more there are.
export function rows(graph, { closed, filter, reaped, most }) {
  const nodes = new Map(graph.nodes.map((node) => [node.persona_id, node]));
  const shown = visible(graph, nodes, filter, reaped);
  const found = [];
  let left = 0;
  const stack = graph.roots
    .filter((id) => shown.has(id))
    .reverse()
    .map((id) => [id, 1]);
  while (stack.length > 0) {
    const [id, level] = stack.pop();
    const node = nodes.get(id);
    const children = node.children.filter((child) => shown.has(child));
    const open = filter !== "" || !closed.has(id);
    if (found.length < most) found.push({ id, level, children: children.length, open, status: node.status });
    else left += 1;
    if (open) for (const child of children.reverse()) stack.push([child, level + 1]);
  }
  return { rows: found, left };
}

// Which ids are shown: those that match, and all above them, so that each stands in its place.
function visible(graph, nodes, filter, reaped) {
  const wanted = filter.toLowerCase();
  const shown = new Set();
  for (const node of graph.nodes) {
    if (!node.persona_id.toLowerCase().includes(wanted) || (!reaped && node.status === "reaped")) continue;
    for (let id = node.persona_id; id !== null && !shown.has(id); id = nodes.get(id)?.parent_id ?? null)
      shown.add(id);
  }
  return shown;
}
