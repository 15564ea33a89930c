// Check the golden images of an exported file in .NET 8. `Classify` takes the pixels of any image.
//   dotnet new console -o predict && cp Program.cs predict && cd predict && dotnet add package Microsoft.ML.OnnxRuntime
//   dotnet run -- runs/001-custom-cnn/export
using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
string folder = args.Length > 0 ? args[0] : ".";
JsonNode model = Read("model.json");
string file = model["file"]!.GetValue<string>();
string kind = model["input"]!["kind"]!.GetValue<string>();
string output = model["outputs"]![0]!["name"]!.GetValue<string>();
if (kind != "images" || output != "probabilities")
{
    Console.Error.WriteLine($"{file} takes {kind} and returns {output}; export with --input images --output probabilities");
    return 1;
}
string[] classes = model["classes"]!.AsArray().Select(name => name!.GetValue<string>()).ToArray();
using var session = new InferenceSession(Path.Combine(folder, file));

JsonNode golden = Read(Path.Combine("golden", "golden.json"));
double largest = 0;
foreach (JsonNode? image in golden["images"]!.AsArray())
{
    byte[] pixels = File.ReadAllBytes(Path.Combine(folder, "golden", image!["pixels"]!.GetValue<string>()));
    float[] found = Classify(pixels, image["height"]!.GetValue<int>(), image["width"]!.GetValue<int>());
    string label = classes[Array.IndexOf(found, found.Max())];
    Console.WriteLine($"{image["file"]} {label} {string.Join(' ', found.Select(value => value.ToString("F8")))}");
    double[] expected = image["probabilities"]!.AsArray().Select(value => value!.GetValue<double>()).ToArray();
    largest = Math.Max(largest, found.Zip(expected, (one, other) => Math.Abs(one - other)).Max());
}
Console.WriteLine($"largest difference from golden.json: {largest:E1}");
return largest <= golden["tolerance"]!.GetValue<double>() ? 0 : 1;

JsonNode Read(string name) => JsonNode.Parse(File.ReadAllText(Path.Combine(folder, name)))!;

// Return the probabilities of one image: RGB bytes, row by row, of any size.
float[] Classify(byte[] pixels, int height, int width)
{
    var images = new DenseTensor<byte>(pixels, new[] { 1, height, width, 3 });
    using var results = session.Run(new[] { NamedOnnxValue.CreateFromTensor("images", images) }, new[] { "probabilities" });
    return results.First().AsEnumerable<float>().ToArray();
}
