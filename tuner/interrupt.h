// Ctrl-C: removes the temporary files of outputs under way, then ends the process as the signal
// would. A model file that is cut short while it is mapped: the same, with a line that says so.
#pragma once

#include <string>

namespace tandem {

/// Installs the handler for the signals that end a program from outside, and for SIGBUS; main calls
/// it once.
void handle_interrupts();
/// The temporary file of this output is removed if the process is interrupted from now on. At most
/// 8 outputs.
void remove_on_interrupt(const std::string& output_path);

}  // namespace tandem
