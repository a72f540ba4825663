#include "emulation/graph.h"

#include <utility>

#include "emulation/machine.h"
#include "emulation/stream.h"

namespace cuda_emulation {
namespace {

/// Builds an order; nodes are added at most once.
class Order {
 public:
  explicit Order(const CUgraph_st& graph) : graph_(graph), added_(graph.nodes.size()) {}

  static bool keeps_its_place(const CUgraphNode_st& node) {
    return !node.side || node.type == cudaGraphNodeTypeBatchMemOp ||
           node.type == cudaGraphNodeTypeHost;
  }
  void add(size_t node) {
    if (added_[node]) return;
    added_[node] = true;
    order_.push_back(node);
  }
  void add_with_predecessors(size_t node) {
    if (added_[node]) return;
    for (const size_t earlier : graph_.nodes[node].after) add_with_predecessors(earlier);
    add(node);
  }
  /// Those of other branches that could be executed now; what they come after has a lower index.
  void add_ready() {
    for (size_t i = 0; i < added_.size(); ++i) {
      if (keeps_its_place(graph_.nodes[i])) continue;
      bool ready = true;
      for (const size_t earlier : graph_.nodes[i].after) ready &= added_[earlier];
      if (ready) add(i);
    }
  }
  std::vector<size_t> take() { return std::move(order_); }

 private:
  const CUgraph_st& graph_;
  std::vector<bool> added_;
  std::vector<size_t> order_;
};

}  // namespace

std::vector<size_t> order_of(const CUgraph_st& graph, SideBranches side_branches) {
  Order order(graph);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (side_branches == SideBranches::kEarly) order.add_ready();
    if (side_branches == SideBranches::kAsCaptured || Order::keeps_its_place(graph.nodes[i]))
      order.add_with_predecessors(i);
  }
  for (size_t i = 0; i < graph.nodes.size(); ++i) order.add_with_predecessors(i);
  return order.take();
}

void Replay::run() {
  const std::lock_guard guard(running);
  for (const size_t node : orders[launches++ % orders.size()]) {
    if (!count_operation()) return;
    operations[node]();
  }
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long /*flags*/) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (exec == nullptr || graph == nullptr) return answer(cudaErrorInvalidValue);
  auto replay = std::make_shared<Replay>();
  for (const CUgraphNode_st& node : graph->nodes) replay->operations.push_back(node.operation);
  replay->orders = {order_of(*graph, SideBranches::kAsCaptured),
                    order_of(*graph, SideBranches::kEarly), order_of(*graph, SideBranches::kLate)};
  *exec = new CUgraphExec_st{std::move(replay)};
  ++machine().graphs;
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t /*stream*/) {
  return answer(exec == nullptr ? cudaErrorInvalidValue : ready());
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (exec == nullptr) return answer(cudaErrorInvalidValue);
  if (stream != nullptr) {
    const std::lock_guard guard(capture_mutex());
    if (stream->capture.capture != nullptr) return answer(cudaErrorNotSupported);  // child graphs
  }
  return answer(
      submit(stream, cudaGraphNodeTypeKernel, [replay = exec->replay] { replay->run(); }));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  if (exec == nullptr) return answer(cudaErrorInvalidValue);
  delete exec;
  --machine().graphs;
  return answer(ready());
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  if (graph == nullptr) return answer(cudaErrorInvalidValue);
  delete graph;
  --machine().graphs;
  return answer(ready());
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* num_nodes) {
  if (graph == nullptr || num_nodes == nullptr) return answer(cudaErrorInvalidValue);
  if (nodes != nullptr)
    for (size_t i = 0; i < *num_nodes; ++i)
      nodes[i] = i < graph->nodes.size() ? &graph->nodes[i] : nullptr;
  if (nodes == nullptr || *num_nodes > graph->nodes.size()) *num_nodes = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  if (node == nullptr || type == nullptr) return answer(cudaErrorInvalidValue);
  *type = node->type;
  return cudaSuccess;
}
