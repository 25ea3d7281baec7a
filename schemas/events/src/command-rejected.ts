import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition } from "./fields.ts"

export const commandRejected = sessionFact({
  type: "command.rejected",
  meaning: "A command was refused; its sender finds the reason here by commandId.",
  saidBy: ["intake"],
  heardBy: ["cli"],
  fields: { commandId: z.string(), command: commandPosition, commandType: z.string(), code: z.string(), message: z.string() },
  example: {
    commandId: "msg-9",
    command: { partition: 3, offset: 22 },
    commandType: "message.send",
    code: "session_unknown",
    message: "There is no session sesn_my2. Start it with session.start, or check the id.",
  },
})
