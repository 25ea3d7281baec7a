export { type ConsoleFile, consoleFiles, UnbuildableError } from "./console-files.ts"
