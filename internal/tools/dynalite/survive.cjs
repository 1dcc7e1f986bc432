// dynalite throws what happens to a connection: a client that leaves in the middle
// of its request would end it for all. Everything else still ends it.
process.on('uncaughtException', (err) => {
  if (err.code === 'ECONNRESET') return
  console.error(err)
  process.exit(1)
})
