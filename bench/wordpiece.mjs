// The tokenizer of BERT models as their tokenizer.json states it: lower case, accents dropped, words split at
// punctuation, then the longest pieces of the vocabulary. Enough to measure embeddings with.
import { readFileSync } from "node:fs";

const MAX_LENGTH = 256;

/** @returns a function from text to token ids, [CLS] and [SEP] included */
export function wordPiece(file) {
  const { model, normalizer } = JSON.parse(readFileSync(file, "utf8"));
  const vocab = new Map(Object.entries(model.vocab));
  const prefix = model.continuing_subword_prefix ?? "##";
  const pieces = (word) => {
    const ids = [];
    for (let from = 0; from < word.length;) {
      let to = word.length;
      const at = () => vocab.get((from > 0 ? prefix : "") + word.slice(from, to));
      while (to > from && at() === undefined) to--;
      if (to === from) return [vocab.get("[UNK]")];
      ids.push(at());
      from = to;
    }
    return ids;
  };
  return (text) => {
    const plain = (normalizer?.lowercase ?? true) ? text.toLowerCase().normalize("NFD").replace(/\p{Mn}/gu, "") : text;
    const words = plain.match(/[\p{L}\p{N}]+|[^\s\p{L}\p{N}]/gu) ?? [];
    return [vocab.get("[CLS]"), ...words.flatMap(pieces).slice(0, MAX_LENGTH - 2), vocab.get("[SEP]")];
  };
}
