/** The server does not have the tool that was called, or not for this client. */
class NotOffered extends Error {}

/** What a tool answered, out of the result of a call. */
function answerOf(result) {
    const text = (result?.content ?? []).map((block) => block.text ?? "").join("\n");
    if (result?._meta?.["sluice/error"]?.kind === "not_permitted") throw new NotOffered(text);
    if (result?.isError) throw new Error(text || "the tool failed");
    if (result?.structuredContent === undefined) throw new Error(text || "the tool answered nothing");
    return result.structuredContent;
}
