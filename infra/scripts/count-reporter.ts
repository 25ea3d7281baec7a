// A reporter for Node's test runner that says only how many tests passed, failed and were skipped, as one JSON object.
import type { TestEvent } from "node:test/reporters"

// Node loads a reporter by its default export.
// oxlint-disable-next-line import/no-default-export
export default async function* countReporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    // One summary comes for each file that had its own process, and one without a file for the whole run.
    if (event.type !== "test:summary" || event.data.file !== undefined) continue
    const { tests, passed, skipped, todo } = event.data.counts
    yield JSON.stringify({ passed, skipped: skipped + todo, failed: tests - passed - skipped - todo })
  }
}
