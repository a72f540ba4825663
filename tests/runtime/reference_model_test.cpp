#include "tests/reference_model.h"

#include <doctest/doctest.h>

#include "tests/goldens.h"

using namespace tandem;

TEST_CASE("the reference model reproduces every golden") {
  const std::vector<Golden> goldens = read_goldens();
  // Nineteen models have a file of 24 tokens each, three of them a long one too.
  CHECK(goldens.size() == 22);
  for (const Golden& golden : goldens) {
    CAPTURE(golden.name);
    const Model model = open_gguf(golden.model_path);
    const reference::Matrix logits = ReferenceModel(model).logits(golden.tokens);
    const int64_t rows = static_cast<int64_t>(golden.logits.size()) / model.spec.vocab_size;
    // Both are exact but for the rounding of the goldens to float.
    CHECK(relative_error(golden.logits, logits.bottomRows(rows)) < 1e-6);
  }
}

TEST_CASE("a path through a tree has the logits of the same tokens in a chain") {
  const Golden golden = read_goldens().front();
  const Model model = open_gguf(golden.model_path);
  const ReferenceModel reference(model);
  const std::vector<int32_t> tree{5, 6, 7, 8}, parents{-1, 0, 0, 2};  // 5 6 and 5 7 8
  const std::vector<int32_t> chain{5, 7, 8};
  const reference::Matrix a = reference.logits(tree, parents), b = reference.logits(chain);
  CHECK((a.row(3) - b.row(2)).norm() < 1e-9 * b.row(2).norm());
  CHECK((a.row(1) - b.row(1)).norm() > 1e-3 * b.row(1).norm());
}
