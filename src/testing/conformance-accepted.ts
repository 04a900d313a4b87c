/** The cases of ONNX's test suite that are not expected to pass, by reason. Everything else must. */
export const ACCEPTED_FAILURES: Readonly<Record<string, readonly string[]>> = {
  "domain ai.onnx.preview.training is not supported": [
    "test_adagrad", "test_adam", "test_adam_multiple", "test_gradient_of_add", "test_gradient_of_add_and_mul", "test_momentum", "test_momentum_multiple",
  ],
  "domain ai.onnx.preview is not supported": [
    "test_flexattention", "test_flexattention_causal_mask", "test_flexattention_diff_head_sizes", "test_flexattention_double", "test_flexattention_fp16",
    "test_flexattention_gqa", "test_flexattention_scaled", "test_flexattention_soft_cap",
  ],
  "ImageDecoder reads neither JPEG 2000 nor WebP": ["test_image_decoder_decode_jpeg2k_rgb", "test_image_decoder_decode_webp_rgb"],
};
