// `tandem synthesize`: writes a shape's pseudo-random weights as a GGUF, so that peers run on the
// same bytes.

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "tuner/cli.h"
#include "tuner/commands.h"

namespace tandem {
namespace {

struct SynthesizeArgs {
  ModelArgs model{.model = {}, .dtype = "q4_0", .seed = 1};
  std::string output;
  bool quiet = false;
};

void synthesize(const SynthesizeArgs& args) {
  const ModelSpec spec = open_spec(model_source(args.model));
  prepare_output(args.output, {args.model.model});
  {
    Progress progress(!args.quiet);
    write_synthetic_gguf(spec, args.model.seed, args.output, [&](int64_t done, int64_t all) {
      progress.update(all > 0 ? static_cast<double>(done) / static_cast<double>(all) : 1,
                      "writing " + args.output);
    });
  }
  fmt::print("wrote {}: {} {}, {}\n", args.output, spec.name, args.model.dtype,
             format_bytes(static_cast<double>(std::filesystem::file_size(args.output))));
}

}  // namespace

void add_synthesize_command(CLI::App& app, int& /*exit_code*/) {
  CLI::App* command =
      app.add_subcommand("synthesize", "write a shape with pseudo-random weights as a GGUF");
  command->footer("Example: tandem synthesize tinyllama-1.1b --dtype q4_0 -o tinyllama.gguf");
  const auto args = std::make_shared<SynthesizeArgs>();
  command
      ->add_option("shape", args->model.model,
                   "name of a compiled-in shape (see `tandem info`) or a shape file")
      ->required();
  command->add_option("--dtype", args->model.dtype, "element type of the matrices")
      ->capture_default_str();
  command->add_option("--seed", args->model.seed, "seed of the weights")->capture_default_str();
  command->add_option("-o,--output", args->output, "GGUF file to write")->required();
  command->add_flag("--quiet", args->quiet, "show no progress");
  command->callback([args] { synthesize(*args); });
}

}  // namespace tandem
