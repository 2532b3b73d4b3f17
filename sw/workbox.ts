export type { ApiDoor, ApiPart, ApiStrategy, StrategyPlugin } from './offline/api-part.js'
export { type TokenPlugin, tokenPlugin } from './offline/token-plugin.js'
export { type DropReason, type TokenQueueOptions, tokenQueue } from './offline/token-queue.js'
