const token = require('crypto').randomBytes(8).toString('hex');
let count = 0;
require('http').createServer((request, response) => {
  if (request.method === 'POST') count += 1;
  response.end(`${token} ${count}`);
}).listen(Number(process.argv[1]));
