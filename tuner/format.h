// Quantities as people write and read them: bytes, seconds, rates, ranges. No output here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/range.h"
#include "profiles/machine_profile.h"
#include "sim/plan.h"

namespace tandem {

/// "1.25 GiB", "96.0 KiB", "17 B": binary units, three digits or so.
std::string format_bytes(double bytes);
/// "12.3 ms", "840 ns".
std::string format_seconds(double seconds);
/// "53.1 GB/s" (GB = 1e9), "12.0 MB/s".
std::string format_bytes_per_s(double bytes_per_s);
/// "55.2 (52.9 .. 57.0)": a rate with the interval it claims.
std::string format_rate(const Rate& rate);
/// "DRAM read 33.4 GB/s, compute 94, 71 GFLOP/s": what tells one state of a machine from another.
/// Of many cores, their sum.
std::string format_probe(const Probe& probe);
/// "[0,4224)", "[256,)" where the end is open, "-" where empty.
std::string format_range(Range range);
/// "gpu0", or "gpu0 streamed" for weights that come over its link.
std::string format_holder(const std::string& unit, Home home);
/// "0-3,8": logical CPU numbers, runs joined.
std::string format_cores(const std::vector<int>& cores);

/// "2GiB", "512 MiB", "1.5e9", "3GB": bytes. Error naming `where` (an option) for anything else,
/// and for zero or less.
int64_t parse_bytes(std::string_view text, std::string_view where);
/// Non-empty pieces between separators, blanks around them dropped.
std::vector<std::string> split_list(std::string_view text, char separator = ',');
/// "1,5,9": integers of a list. Error naming `where` and the piece that is none.
std::vector<int32_t> parse_integers(std::string_view text, std::string_view where);

}  // namespace tandem
