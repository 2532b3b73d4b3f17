export type {
  ApiAnswer,
  ApiCall,
  ApiPart,
  ApiStrategy,
  CallToken,
  ConnectedWorker,
  Preparation,
  StrategyPlugin,
} from './offline/api-part.js'
export type { DropReason, TokenQueueOptions } from './offline/queue-options.js'
export type { TokenPlugin } from './offline/token-plugin.js'
export { tokenPlugin } from './offline/token-plugin.js'
export { tokenQueue } from './offline/token-queue.js'
