export { type Config, parseOptions } from './options.js'
