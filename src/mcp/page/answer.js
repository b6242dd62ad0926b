/** What a tool answered, out of the result of a call. */
function answerOf(result) {
    const text = (result?.content ?? []).map((block) => block.text ?? "").join("\n");
    if (result?.isError) throw new Error(text || "the tool failed");
    if (result?.structuredContent === undefined) throw new Error(text || "the tool answered nothing");
    return result.structuredContent;
}
