export { type Host, type HostOptions, hasModel, startHost } from "./host.ts"
export { build, type Given, hostable } from "./hosted.ts"
