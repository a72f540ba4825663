#include "sim/exchange.h"

#include <algorithm>
#include <map>
#include <utility>

namespace tandem {
namespace {

/// A region of a buffer that a task reads or writes.
struct Access {
  Buffer buffer;
  int index;
  Range range;
};

class Tracking {
 public:
  Tracking(const ModelSpec& model, const Plan& plan, const TaskGraph& graph,
           const UnitMemories& memories)
      : model_(model),
        plan_(plan),
        phase_(phase_for(plan, graph.step.tokens, graph.step.context)),
        graph_(graph),
        memories_(memories) {
    exchange_.receives.resize(graph.tasks.size());
    exchange_.published_bytes.resize(graph.tasks.size(), 0);
  }

  Exchange run() && {
    for (const Task& task : graph_.tasks) {
      for (const Access& access : reads(task)) read(task, access);
      for (const Access& access : writes(task)) write(task, access);
      if (task.stage == Stage::kLmHead && memory_of(task) != kHost) publish(task);
    }
    return std::move(exchange_);
  }

 private:
  static constexpr int kHost = -1;

  /// What lies in a buffer since a task wrote it.
  struct Piece {
    Range range;
    int producer;
    uint64_t held = 0;  ///< bit u: unit u has copied it
  };
  using Key = std::pair<Buffer, int>;

  int memory_of(const Task& task) const {
    const bool own = memories_.own >> task.unit & 1;
    return own && !on_host(task.stage, graph_.step) ? task.unit : kHost;
  }

  bool reads_directly(const Task& task, const Task& producer) const {
    return memory_of(task) != kHost && memory_of(producer) != kHost &&
           memories_.reads_directly(task.unit, producer.unit);
  }

  /// Copies what overlaps and no more: the producer's unit may be overwriting the rest already.
  void read(const Task& task, const Access& access) {
    const int memory = memory_of(task);
    std::vector<Piece>& pieces = pieces_[{access.buffer, access.index}];
    std::vector<Piece> after;
    for (const Piece& piece : pieces) {
      Piece common = piece;
      common.range = intersect(piece.range, access.range);
      const Task& producer = graph_.tasks[static_cast<size_t>(piece.producer)];
      const bool crosses = !common.range.empty() && memory_of(producer) != memory;
      const bool direct = crosses && reads_directly(task, producer);
      if (crosses && !direct && memory_of(producer) != kHost) publish(producer);
      if (!crosses || memory == kHost || (piece.held >> task.unit & 1)) {
        after.push_back(piece);
        continue;
      }
      exchange_.receives[static_cast<size_t>(task.id)].push_back(
          {access.buffer, access.index, common.range, task.tokens, piece.producer,
           bytes_of(access.buffer, common.range, task.tokens), direct ? producer.unit : -1});
      common.held |= uint64_t{1} << task.unit;
      add_rest(piece, common.range, after);
      after.push_back(common);
    }
    pieces = std::move(after);
  }

  /// A task's result is published whole.
  void publish(const Task& producer) {
    double bytes = 0;
    for (const Access& access : writes(producer))
      bytes += bytes_of(access.buffer, access.range, producer.tokens);
    exchange_.published_bytes[static_cast<size_t>(producer.id)] = bytes;
  }

  void write(const Task& task, const Access& access) {
    std::vector<Piece> kept;
    for (const Piece& piece : pieces_[{access.buffer, access.index}])
      add_rest(piece, access.range, kept);
    kept.push_back({access.range, task.id});
    pieces_[{access.buffer, access.index}] = std::move(kept);
  }

  /// Appends what of a piece lies outside of `range`.
  static void add_rest(const Piece& piece, Range range, std::vector<Piece>& pieces) {
    for (const Range rest : {Range{piece.range.begin, std::min(piece.range.end, range.begin)},
                             Range{std::max(piece.range.begin, range.end), piece.range.end}})
      if (!rest.empty()) pieces.push_back({rest, piece.producer, piece.held});
  }

  double bytes_of(Buffer buffer, Range range, int64_t rows) const {
    const int64_t d = model_.head_dim, group = model_.group();
    const auto size = static_cast<double>(range.size() * rows);
    switch (buffer) {
      case Buffer::kX:
      case Buffer::kH:
      case Buffer::kLogits:
        return size * sizeof(float);
      case Buffer::kQ:
      case Buffer::kAttended:
        return size * static_cast<double>(group * d) * sizeof(float);
      case Buffer::kStates:
        return size * static_cast<double>(group * (d + 2)) * sizeof(float);
      case Buffer::kStep:
        return size * 2 * static_cast<double>(row_bytes(plan_.kv_dtype, d));
    }
    return 0;
  }

  Range heads_of_columns(Range columns) const {
    const int64_t width = model_.qkv_columns_per_kv_head();
    return {columns.begin / width, columns.end / width};
  }

  std::vector<Access> reads(const Task& task) const {
    const Access x{Buffer::kX, 0, {0, model_.hidden_size}};
    switch (task.stage) {
      case Stage::kEmbed:
        return {};
      case Stage::kQkv:
      case Stage::kGateUp:
      case Stage::kLmHead:
        return {x};
      case Stage::kAttention:
        return attention_reads(task);
      case Stage::kMerge:
        return merge_reads(task);
      case Stage::kOut:  // adds to its own columns
        return {{Buffer::kAttended, 0, {0, model_.num_kv_heads}}, {Buffer::kX, 0, task.range}};
      case Stage::kDown:
        return {{Buffer::kH, 0, {0, model_.intermediate_size}}, {Buffer::kX, 0, task.range}};
      case Stage::kSample:
        return {{Buffer::kLogits, 0, {0, model_.vocab_size}}};
      case Stage::kCommit:
        return commit_reads(task);
      case Stage::kCopy:
        return {};
    }
    return {};
  }

  std::vector<Access> attention_reads(const Task& task) const {
    std::vector<Access> all{{Buffer::kQ, 0, task.range}};
    const AttentionPart& part =
        layer_plan(phase_, task.layer).attention[static_cast<size_t>(task.part)];
    if (part.new_tokens) all.push_back({Buffer::kStep, task.layer, task.range});
    return all;
  }

  std::vector<Access> merge_reads(const Task& task) const {
    std::vector<Access> all;
    for (const int dep : task.deps)
      all.push_back({Buffer::kStates, graph_.tasks[static_cast<size_t>(dep)].part, task.range});
    return all;
  }

  /// Keys and values of all heads that the unit is a home of, in the layers where it is one.
  std::vector<Access> commit_reads(const Task& task) const {
    std::vector<Access> all;
    for (const LayerPlan& group : plan_.phases.front().layers) {
      Range heads;
      for (const AttentionPart& part : group.attention)
        if (part.unit == task.unit && !part.context.empty()) heads = hull(heads, part.kv_heads);
      const Range layers = intersect(group.layers, task.range);
      for (int64_t layer = layers.begin; layer < layers.end && !heads.empty(); ++layer)
        all.push_back({Buffer::kStep, static_cast<int>(layer), heads});
    }
    return all;
  }

  std::vector<Access> writes(const Task& task) const {
    switch (task.stage) {
      case Stage::kEmbed:
        return {{Buffer::kX, 0, {0, model_.hidden_size}}};
      case Stage::kQkv:
        return {{Buffer::kQ, 0, heads_of_columns(task.range)},
                {Buffer::kStep, task.layer, heads_of_columns(task.range)}};
      case Stage::kAttention:
        if (task.whole) return {{Buffer::kAttended, 0, task.range}};
        return {{Buffer::kStates, task.part, task.range}};
      case Stage::kMerge:
        return {{Buffer::kAttended, 0, task.range}};
      case Stage::kOut:
      case Stage::kDown:
        return {{Buffer::kX, 0, task.range}};
      case Stage::kGateUp:
        return {{Buffer::kH, 0, task.range}};
      case Stage::kLmHead:
        return {{Buffer::kLogits, 0, task.range}};
      case Stage::kSample:
      case Stage::kCommit:
      case Stage::kCopy:
        return {};
    }
    return {};
  }

  const ModelSpec& model_;
  const Plan& plan_;
  const Phase& phase_;
  const TaskGraph& graph_;
  const UnitMemories& memories_;
  std::map<Key, std::vector<Piece>> pieces_;
  Exchange exchange_;
};

}  // namespace

Exchange exchange_of(const ModelSpec& model, const Plan& plan, const TaskGraph& graph,
                     const UnitMemories& memories) {
  return Tracking(model, plan, graph, memories).run();
}

}  // namespace tandem
