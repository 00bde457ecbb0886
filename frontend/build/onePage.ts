import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";
import { sourceHash } from "./sourceHash.ts";

/** Replaces the script and the style sheet of the bundle by one file, `page.html`, that contains both. */
export function onePage(): Plugin {
  let root = "";
  return {
    name: "pivotrl-one-page",
    apply: "build",
    enforce: "post",
    configResolved(config) {
      root = config.root;
    },
    // Last of all: the list of licences is made from the chunks that are taken out of the bundle here.
    generateBundle: {
      order: "post",
      handler(_options, bundle) {
        let script = "";
        let style = "";
        for (const [name, file] of Object.entries(bundle)) {
          if (file.type === "chunk") script += file.code;
          else if (name.endsWith(".css")) style += String(file.source);
          else continue;
          delete bundle[name];
        }
        const parts: Record<string, string> = {
          source: sourceHash(root),
          style: safeStyle(style),
          script: safeScript(script),
        };
        const template = readFileSync(join(root, "page.template.html"), "utf8");
        const page = template.replace(/\{\{(\w+)\}\}/g, (_mark, key: string) => {
          const part = parts[key];
          delete parts[key];
          if (!part) throw new Error(`page.template.html asks for ${key} twice, or nothing was built for it.`);
          return part;
        });
        if (Object.keys(parts).length > 0)
          throw new Error(`page.template.html lacks ${Object.keys(parts).join(", ")}.`);
        this.emitFile({ type: "asset", fileName: "page.html", source: page });
      },
    },
  };
}

/** `</script` and `<!--` would end or confuse the inline script; in strings and regular expressions `\x3c` means the same. */
function safeScript(code: string): string {
  return code.replace(/<(?=\/script|!--|script)/gi, "\\x3c").trim();
}

function safeStyle(code: string): string {
  if (/<\/style/i.test(code)) throw new Error("The style sheet contains </style.");
  return code.trim();
}
