import { deletionShapes, goldenDeletion } from "./golden-deletion.ts"
import { goldenSession, goldenShapes } from "./golden-session.ts"
import type { Shape, Story } from "./story.ts"

/** What is told over and over, by name: in which shapes, and what. */
export const stories: Readonly<
  Record<
    StoryName,
    {
      readonly shapes: Readonly<Record<string, Shape>>
      readonly tell: (sessionId: string, ordersUrl: string) => Story
    }
  >
> = {
  session: { shapes: goldenShapes, tell: goldenSession },
  deletion: { shapes: deletionShapes, tell: goldenDeletion },
}

export type StoryName = "session" | "deletion"
export const storyNames: readonly StoryName[] = ["session", "deletion"]
