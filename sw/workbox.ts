export type { ApiDoor, ApiPart, ApiStrategy, StrategyPlugin } from './api-part.js'
export { type TokenPlugin, tokenPlugin } from './token-plugin.js'
export { type DropReason, type TokenQueueOptions, tokenQueue } from './token-queue.js'
