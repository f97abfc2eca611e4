// The seventh generation of the AI SDK, unmodified, against a running gateway, with the arguments and checks of ai_node.mjs.

process.env.AI_SDK = "7";
await import("./ai_node.mjs");
