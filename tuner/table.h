// A table of text with aligned columns. It knows no units and prints nothing itself.
#pragma once

#include <string>
#include <vector>

namespace tandem {

class Table {
 public:
  explicit Table(std::vector<std::string> header);

  /// One cell per column; missing ones stay empty.
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.size() == 1; }
  /// Lines ending in '\n', two blanks between columns. Columns whose cells are all numbers are set
  /// right.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;  ///< the header is row 0
};

}  // namespace tandem
