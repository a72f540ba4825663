#include "tuner/table.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace tandem {
namespace {

/// Columns a terminal needs: code points of UTF-8, which is exact for what the commands print.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

bool numeric(const std::string& cell) {
  const size_t first = cell.find_first_not_of("-+");
  return first == std::string::npos || std::isdigit(static_cast<unsigned char>(cell[first])) != 0;
}

}  // namespace

Table::Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }

void Table::add(std::vector<std::string> cells) {
  cells.resize(rows_.front().size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  const size_t columns = rows_.front().size();
  std::vector<size_t> widths(columns, 0);
  std::vector<bool> right(columns, true);
  for (size_t row = 0; row < rows_.size(); ++row)
    for (size_t i = 0; i < columns; ++i) {
      widths[i] = std::max(widths[i], width(rows_[row][i]));
      if (row > 0 && !numeric(rows_[row][i])) right[i] = false;
    }
  std::string text;
  for (const std::vector<std::string>& row : rows_) {
    std::string line;
    for (size_t i = 0; i < columns; ++i) {
      const std::string pad(widths[i] - width(row[i]), ' ');
      line += (i > 0 ? "  " : "") + (right[i] ? pad + row[i] : row[i] + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  return text;
}

}  // namespace tandem
